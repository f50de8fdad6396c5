"""Staged messages reach their logs exactly once, whichever process dies between any two steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.stage import (
    Buses,
    Died,
    consumer,
    counts,
    killed_at,
    outputs,
    publish,
    rows,
    run,
    stage,
    stored,
)
from tidings.model.options import Durability, Guarantee, TopicOptions
from tidings.spi import Settlement

STEPS = [
    "outbox take before",
    "outbox take after",
    "pump _move_to before",
    "bus store before",
    "bus store after",
    "pump _note before",
    "pump _note after",
    "log sync before",
    "log sync after",
    "outbox finish before",
    "outbox finish after",
]


class TestDying:
    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("others", [0, 2])
    def test_a_mover_that_dies_at_any_step_loses_and_doubles_nothing(
        self, on_disk: Buses, step: str, others: int
    ) -> None:
        """Also when the log goes on between, and when those who take over die there, too."""
        here, watching = on_disk.open(), on_disk.open()
        here.create_topic("out", TopicOptions(partitions=2))
        stage(here, "out", "a", "b", "c")
        publish(here, "out", "before")
        for number in range(1 + others):
            mover = on_disk.open()
            try:
                with killed_at(on_disk, mover, step):
                    run(mover)
            except pytest.fail.Exception:
                assert number > 0, "it did not die"
            publish(watching, "out", f"between {number}")
            watching.bury()
        run(watching)
        found = sorted(stored(here, "out"))
        assert found == sorted(["a", "b", "c", "before", *(f"between {number}" for number in range(1 + others))])
        assert rows(here) == []

    @pytest.mark.parametrize("step", ["pump move_own before", *STEPS[2:7]])
    def test_so_does_one_that_dies_after_its_commit(self, on_disk: Buses, step: str) -> None:
        here, there = on_disk.open(), on_disk.open()
        feed = consumer(there, "orders")
        publish(here, "orders", "a")
        (message,) = feed.poll(1)
        with killed_at(on_disk, there, step):
            feed.commit([Settlement(message, "ack")], outputs("x", "1", "2") + outputs("y", "3"), Durability.OS)
        here.bury()
        run(here)
        assert (sorted(stored(here, "x")), stored(here, "y")) == (["1", "2"], ["3"])
        assert (counts(here), rows(here)) == ({"acked": 1}, [])

    def test_one_that_dies_before_its_commit_did_nothing(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        feed = consumer(there, "orders")
        publish(here, "orders", "a")
        (message,) = feed.poll(1)
        with pytest.MonkeyPatch.context() as patch:

            def die(*_: object) -> None:
                raise Died

            patch.setattr(there.claims, "commit", die)
            with pytest.raises(Died):
                feed.commit([Settlement(message, "ack")], outputs("x", "1"), Durability.OS)
        on_disk.kill(there)
        here.bury()
        run(here)
        assert (stored(here, "x"), counts(here)) == ([], {"lag": 1})

    def test_after_a_loss_of_power_the_log_may_end_before_where_it_was_to_be_looked_for(self, on_disk: Buses) -> None:
        """The row was durable, the end of the log was not. Whoever appends it then may die, too."""
        here = on_disk.open()
        shard = here.topic("out").shards[0]
        stage(here, "out", "a", mover=99, shard=shard.id, floor=10)
        here.bury()
        there = on_disk.open()
        with killed_at(on_disk, there, "outbox finish before"):
            run(there)
        publish(here, "out", "other")
        here.bury()
        run(here)
        assert stored(here, "out") == ["a", "other"]

    def test_a_new_process_in_the_slot_of_a_dead_mover_takes_over(self, on_disk: Buses) -> None:
        here, there = on_disk.open(), on_disk.open()
        stage(here, "out", "a")
        with killed_at(on_disk, there, "bus store after"):
            run(there)
        again = on_disk.open()
        again.slot()
        run(again)
        assert (stored(here, "out"), rows(here)) == (["a"], [])

    @given(st.lists(st.sampled_from([None, *STEPS]), max_size=6), st.integers(1, 4), st.sampled_from(Guarantee))
    @settings(max_examples=15, deadline=None)
    def test_any_row_of_deaths(
        self, tmp_path_factory: pytest.TempPathFactory, deaths: list[str | None], n: int, delivery: Guarantee
    ) -> None:
        buses = Buses(tmp_path_factory.mktemp("bus") / "bus")
        try:
            here, expected = buses.open(), list[str]()
            here.create_topic("out", TopicOptions(partitions=2, delivery=delivery))
            for number, step in enumerate(deaths):
                batch = [f"{number}-{at}" for at in range(n)]
                stage(here, "out", *batch)
                expected += batch
                mover = buses.open()
                if step is None:
                    run(mover)
                else:
                    with killed_at(buses, mover, step):
                        run(mover)
                here.bury()
            run(here)
            assert sorted(stored(here, "out")) == sorted(expected)
            assert rows(here) == []
        finally:
            buses.close()
