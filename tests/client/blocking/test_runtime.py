"""The primitives of threads: waiting with a bound, working beside the program, later, and again and again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for
from tidings import Client
from tidings.client.blocking import runtime
from tidings.client.blocking.runtime import Background, Later, Mutex, Signal, Ticker
from tidings.errors import BrokerUnavailable, InvalidURL

FOR_EVER = 3600.0


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


class Watch:
    """Sees the threads that are made while it looks; those of other tests may be ending meanwhile."""

    def __init__(self) -> None:
        self._before = set(threading.enumerate())

    def made(self) -> list[str]:
        return [thread.name for thread in set(threading.enumerate()) - self._before]


def test_a_signal_wakes_who_waits() -> None:
    signal = Signal()
    waiting = [beside(lambda: signal.wait(None)) for _ in range(2)]
    signal.wait(0.005)
    assert all(thread.is_alive() for thread in waiting)
    signal.set()
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()
    signal.wait(FOR_EVER)
    signal.clear()
    begun = time.monotonic()
    signal.wait(0.02)
    assert time.monotonic() - begun >= 0.015


def test_a_mutex_can_be_given_up_on() -> None:
    mutex = Mutex()
    assert mutex.acquire()
    assert not mutex.acquire(0.001)
    assert not mutex.acquire(0.0)
    taken = threading.Event()

    def take() -> None:
        if mutex.acquire():
            taken.set()

    waiting = beside(take)
    assert not taken.wait(0.005)
    mutex.release()
    assert taken.wait(5)
    waiting.join(5)
    mutex.release()
    assert mutex.acquire(0.001)


def test_what_runs_beside_the_program_is_waited_for() -> None:
    begun, go_on = threading.Event(), threading.Event()
    seen: list[bool] = []

    def work() -> None:
        begun.wait(5)
        seen.append(background.is_current())
        background.finish(FOR_EVER)
        go_on.wait(5)
        seen.append(True)

    background = Background(work, "test")
    begun.set()
    assert not background.is_current()
    background.finish(0.01)
    assert seen[1:] == [], "a thread cannot be cancelled, only not waited for"
    go_on.set()
    background.finish(5)
    assert seen == [True, True]


def test_what_runs_beside_the_program_does_not_keep_it_alive() -> None:
    """Threads that are forgotten end with the program."""
    here = threading.Event()

    def stay() -> None:
        here.wait(5)

    for make in (
        lambda: Background(stay, "test"),
        lambda: Ticker(FOR_EVER, lambda: None),
        lambda: Later(FOR_EVER, lambda: None).arm(),
    ):
        before = set(threading.enumerate())
        made = make()
        assert [thread.daemon for thread in set(threading.enumerate()) - before] == [True]
        if isinstance(made, Ticker):
            made.stop()
    here.set()


def test_a_ticker_ticks_until_stopped_and_its_thread_ends() -> None:
    watch = Watch()
    ticks: list[int] = []
    ticker = Ticker(0.001, lambda: ticks.append(1))
    wait_for(lambda: len(ticks) >= 3)
    assert watch.made() == ["tidings-renew"]
    ticker.stop()
    wait_for(lambda: watch.made() == [])


def test_later_works_once_per_arming_and_is_not_put_off() -> None:
    done: list[float] = []
    later = Later(0.02, lambda: done.append(time.monotonic()))
    armed = time.monotonic()
    while not done:
        later.arm()
        assert time.monotonic() - armed < 5, "arming again and again must not put it off"
    assert done[0] - armed >= 0.015
    later.stop()


def test_later_costs_no_thread_until_it_is_armed_and_none_after_stopping() -> None:
    watch = Watch()
    done = threading.Event()
    later = Later(0.001, done.set)
    assert watch.made() == []
    later.arm()
    assert done.wait(5)
    assert watch.made() == ["tidings-ack"]
    done.clear()
    assert not done.wait(0.02), "it works once"
    later.arm()
    assert done.wait(5), "it can be armed again"
    later.stop()
    wait_for(lambda: watch.made() == [])
    done.clear()
    later.arm()
    assert not done.wait(0.02)
    wait_for(lambda: watch.made() == [])


def test_a_stopped_later_does_not_fire() -> None:
    done = threading.Event()
    later = Later(0.02, done.set)
    later.arm()
    later.stop()
    assert not done.wait(0.05)


def test_closing_a_client_ends_the_threads_of_its_readers() -> None:
    watch = Watch()
    client = Client("memory:")
    client.create_group("a", "g")
    client.publish_batch("a", range(10))
    subscription = client.subscribe("a", consumer_group="g")
    seen: list[int] = []
    client.listen("a", lambda message: seen.append(message.data), consumer_group="h", from_beginning=True)
    for message in subscription:
        if message.data == 9:
            break
    wait_for(lambda: len(seen) == 10)
    assert {"tidings-renew", "tidings-ack", "tidings-listener"} <= set(watch.made())
    client.close()
    wait_for(lambda: watch.made() == [])
    assert seen == list(range(10))


def test_a_guard_keeps_threads_apart() -> None:
    guard = runtime.Guard()
    inside = threading.Event()

    def enter() -> None:
        with guard:
            inside.set()

    with guard:
        waiting = beside(enter)
        assert not inside.wait(0.005)
    waiting.join(5)
    assert inside.is_set()


def test_work_for_others_is_done_by_the_caller() -> None:
    threads: list[threading.Thread] = []
    runtime.to_the_end(lambda: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_a_subscription_opens_at_once_and_handlers_are_plain_calls() -> None:
    seen: list[int] = []
    runtime.begin(lambda: seen.append(1))
    runtime.call(seen.append, 2)
    assert seen == [1, 2]


def test_connecting_opens_the_engine_of_the_url() -> None:
    engine = runtime.connect("memory:")
    assert engine.name == "memory"
    assert engine.topics() == []
    engine.close()
    assert runtime.log().name == "tidings"


@pytest.mark.parametrize("wrong", [5, Path("bus"), b"file:bus", []])
def test_what_is_neither_a_url_nor_an_engine_is_refused(wrong: Any) -> None:
    """At once, and not by whatever uses it first."""
    with pytest.raises(InvalidURL, match="neither a URL"):
        runtime.connect(wrong)


def test_an_engine_may_be_given() -> None:
    engine = runtime.connect("memory:")
    assert runtime.connect(engine) is engine
    engine.close()


def test_a_pause_is_as_long_as_asked_for() -> None:
    begun = time.monotonic()
    runtime.pause(0.01)
    assert time.monotonic() - begun >= 0.009


def test_what_takes_long_is_done_in_a_thread() -> None:
    call = runtime.calling()
    result, thread = runtime.beside(lambda: (call(divmod, 7, 3), threading.get_ident()), pytest.fail)
    assert result == (2, 1)
    assert thread != threading.get_ident()


def test_an_error_of_what_takes_long_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        runtime.beside(lambda: 1 // 0, pytest.fail)


def test_ctrl_c_stops_what_takes_long_and_waits_for_it() -> None:
    stopped, ended = threading.Event(), threading.Event()

    def work() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert stopped.wait(10)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        runtime.beside(work, stopped.set)
    assert ended.is_set()


def test_a_bus_that_does_not_open_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else could: the program has no client."""
    called: list[str] = []

    class Away:
        def open(self) -> None:
            called.append("open")
            raise BrokerUnavailable("away")

        def close(self) -> None:
            called.append("close")

    monkeypatch.setattr(runtime, "open_engine", lambda *_: Away())
    with pytest.raises(BrokerUnavailable):
        runtime.connect("nats:")
    assert called == ["open", "close"]
