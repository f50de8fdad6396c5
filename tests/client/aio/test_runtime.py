"""The primitives of the event loop: waiting with a bound, working beside the program, later, and again and again."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidings.client.aio import runtime
from tidings.client.aio.runtime import Background, Later, Mutex, Signal, Ticker
from tidings.client.blocking import runtime as blocking
from tidings.errors import InvalidURL
from tidings.testing.conformance.stage.place import until

FOR_EVER = 3600.0


def public(module: ModuleType) -> dict[str, list[str]]:
    """The names that the generated code may use: of each function and method its parameters."""
    found: dict[str, list[str]] = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
            methods = vars(value).items() if inspect.isclass(value) else [("", value)]
            for method, function in methods:
                if inspect.isfunction(function) and (not method.startswith("_") or method == "__init__"):
                    found[f"{name}.{method}"] = list(inspect.signature(function).parameters)
    return found


def test_both_runtimes_offer_the_same() -> None:
    """The blocking client is generated from the async one, so what one file imports the other must have."""
    assert public(runtime) == public(blocking)
    assert public(runtime)["Later.__init__"] == ["self", "seconds", "work"]


async def test_a_signal_wakes_who_waits() -> None:
    signal = Signal()
    waiting = asyncio.ensure_future(signal.wait(None))
    await asyncio.sleep(0)
    assert not waiting.done()
    signal.set()
    await asyncio.wait_for(waiting, 5)
    await signal.wait(FOR_EVER)
    signal.clear()
    await signal.wait(0.001)
    waiting = asyncio.ensure_future(signal.wait(FOR_EVER))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_mutex_can_be_given_up_on() -> None:
    mutex = Mutex()
    assert await mutex.acquire()
    assert not await mutex.acquire(0.001)
    waiting = asyncio.ensure_future(mutex.acquire())
    cancelled = asyncio.ensure_future(mutex.acquire(FOR_EVER))
    await asyncio.sleep(0)
    cancelled.cancel()
    mutex.release()
    assert await asyncio.wait_for(waiting, 5)
    mutex.release()
    assert await mutex.acquire(0.001)


async def test_what_runs_beside_the_program_is_waited_for() -> None:
    go_on = asyncio.Event()
    seen: list[bool] = []

    async def work() -> None:
        seen.append(background.is_current())
        await background.finish(FOR_EVER)
        await go_on.wait()
        seen.append(True)

    background = Background(work, "test")
    await until(lambda: seen)
    assert not background.is_current()
    finishing = asyncio.ensure_future(background.finish(FOR_EVER))
    await asyncio.wait([finishing], timeout=0.01)
    assert not finishing.done()
    go_on.set()
    await asyncio.wait_for(finishing, 5)
    assert seen == [True, True]


async def test_what_does_not_end_in_time_is_cancelled() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    background = Background(work, "test")
    await asyncio.sleep(0)
    await background.finish(0.01)
    assert ended == ["cancelled"]


async def test_a_ticker_ticks_until_stopped() -> None:
    ticks: list[int] = []

    async def work() -> None:
        ticks.append(1)

    ticker = Ticker(0.001, work)
    await until(lambda: len(ticks) >= 3)
    ticker.stop()
    count = len(ticks)
    await Signal().wait(0.02)
    assert len(ticks) == count


async def test_later_works_once_per_arming_and_is_not_put_off() -> None:
    done: list[float] = []
    clock = asyncio.get_running_loop().time

    async def work() -> None:
        done.append(clock())

    later = Later(0.02, work)
    armed = clock()
    while not done:
        later.arm()
        assert clock() - armed < 5, "arming again and again must not put it off"
        await asyncio.sleep(0)
    assert done[0] - armed >= 0.015
    await until(lambda: len(done) == 2)
    await Signal().wait(0.05)
    assert len(done) == 2
    later.arm()
    later.stop()
    later.arm()
    await Signal().wait(0.05)
    assert len(done) == 2


async def test_work_for_others_goes_on_when_the_caller_is_cancelled() -> None:
    go_on = asyncio.Event()
    seen: list[str] = []

    async def work() -> None:
        await go_on.wait()
        seen.append("done")

    waiting, cancelled = (asyncio.ensure_future(runtime.to_the_end(work)) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gc.collect()
    go_on.set()
    await asyncio.wait_for(waiting, 5)
    await until(lambda: seen == ["done", "done"])
    assert not runtime._going_on


async def test_a_handler_may_be_a_coroutine_function() -> None:
    seen: list[int] = []

    async def slowly(value: int) -> None:
        await asyncio.sleep(0)
        seen.append(value)

    await runtime.call(seen.append, 1)
    await runtime.call(slowly, 2)
    await runtime.call(lambda value: slowly(value), 3)
    assert seen == [1, 2, 3]


async def test_connecting_opens_the_engine_of_the_url() -> None:
    engine = runtime.connect("memory:")
    assert engine.name == "memory"
    assert asyncio.iscoroutinefunction(engine.publish)
    await engine.close()
    assert runtime.log().name == "tidings"


@pytest.mark.parametrize("wrong", [5, Path("bus"), b"file:bus", []])
async def test_what_is_neither_a_url_nor_an_engine_is_refused(wrong: Any) -> None:
    """At once, and not by whatever uses it first."""
    with pytest.raises(InvalidURL, match="neither a URL"):
        runtime.connect(wrong)


async def test_an_engine_may_be_given() -> None:
    engine = runtime.connect("memory:")
    assert runtime.connect(engine) is engine
    await engine.close()


async def test_a_pause_is_as_long_as_asked_for() -> None:
    begun = time.monotonic()
    await runtime.pause(0.01)
    assert time.monotonic() - begun >= 0.009


async def test_what_would_block_is_done_beside_the_loop() -> None:
    """It may call coroutine functions of the loop, which goes on turning."""
    loop_thread = threading.get_ident()

    async def double(number: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return 2 * number, threading.get_ident()

    call = runtime.calling()
    result, thread = await runtime.beside(lambda: (call(double, 21), threading.get_ident()), pytest.fail)
    assert result == (42, loop_thread)
    assert thread != loop_thread


async def test_an_error_beside_the_loop_comes_through() -> None:
    async def fail() -> None:
        raise ValueError("mine")

    call = runtime.calling()
    with pytest.raises(ValueError, match="mine"):
        await runtime.beside(lambda: call(fail), pytest.fail)


async def test_cancelling_stops_what_is_done_beside_the_loop_and_waits_for_it() -> None:
    stopped, ended, begun = threading.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    complaints: list[Any] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert stopped.wait(10)
        ended.set()
        raise ValueError("nobody hears of this")

    task = asyncio.create_task(runtime.beside(work, stopped.set))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    del task
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []
