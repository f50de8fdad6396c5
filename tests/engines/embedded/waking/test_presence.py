"""Who lives: a slot is held exactly as long as its process lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engines.child import Child, is_readable
from tidings.engines.embedded.waking import presence as module
from tidings.engines.embedded.waking.presence import Presence, watch
from tidings.errors import StorageUnavailable

LIVING = """
    import sys
    from pathlib import Path
    from tidings.engines.embedded.waking.presence import Presence
    print(Presence(Path(sys.argv[1])).enter())
    sys.stdin.read()
"""


def test_everybody_gets_a_slot_of_his_own_and_free_ones_are_used_again(tmp_path: Path) -> None:
    three = [Presence(tmp_path) for _ in range(3)]
    assert [each.enter() for each in three] == [0, 1, 2]
    three[1].close()
    assert [three[0].is_alive(slot) for slot in range(4)] == [True, False, True, False]
    assert Presence(tmp_path).enter() == 1
    for each in three:
        each.close()


def test_a_death_is_seen_at_once_by_all(tmp_path: Path) -> None:
    looking = Presence(tmp_path)
    with Child(LIVING, tmp_path) as child:
        slot = int(child.line())
        descriptor = watch(child.pid)
        assert descriptor is not None
        assert looking.is_alive(slot)
        child.stop()
        assert looking.is_alive(slot), "to stand still is not to be dead"
        assert not is_readable(descriptor, 0)
        child.kill()
        assert is_readable(descriptor, 10)
        os.close(descriptor)
        assert not looking.is_alive(slot)
        assert watch(child.pid) is None
    assert looking.enter() == slot
    looking.close()


def test_looking_at_a_slot_does_not_take_it(tmp_path: Path) -> None:
    one, other = Presence(tmp_path), Presence(tmp_path)
    assert one.enter() == 0
    one.close()
    assert not other.is_alive(0)
    assert one.enter() == 0
    assert other.is_alive(0)
    one.close()


def test_more_processes_than_there_are_slots_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PROCESSES", 2)
    two = [Presence(tmp_path) for _ in range(2)]
    for each in two:
        each.enter()
    with pytest.raises(StorageUnavailable, match="2 processes"):
        Presence(tmp_path).enter()
    for each in two:
        each.close()
