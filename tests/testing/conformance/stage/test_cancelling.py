"""Cancelling a call at each of its awaits."""

from __future__ import annotations

import asyncio

import pytest

from tidings.testing.conformance.stage.cancelling import MAX_AWAITS, MOMENTS, Cancelled, at_every_await


async def test_each_await_is_hit_once() -> None:
    done: list[list[str]] = []

    async def call(steps: list[str]) -> str:
        for name in ("a", "b", "c"):
            await asyncio.sleep(0)
            steps.append(name)
        return "end"

    async def try_one(at: int) -> bool:
        steps: list[str] = []
        done.append(steps)
        cancelled = Cancelled(call(steps), at, "at once")
        await cancelled.wait()
        assert (cancelled.happened, cancelled.result) == ((True, None) if cancelled.reached else (False, "end"))
        return cancelled.reached

    assert await at_every_await(try_one) == 4
    assert done == [[], ["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_what_waits_for_long_is_cancelled_at_every_moment(moment: str) -> None:
    cleaned: list[str] = []

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(moment)

    cancelled = Cancelled(call(), 1, moment)
    await asyncio.wait_for(cancelled.wait(), 5)
    assert (cancelled.reached, cancelled.happened, cleaned) == (True, True, [moment])


async def test_a_cancellation_that_comes_too_late_leaves_the_result() -> None:
    async def call() -> int:
        await asyncio.sleep(0)
        return 7

    cancelled = Cancelled(call(), 1, "in the middle")
    await cancelled.wait()
    assert (cancelled.reached, cancelled.happened, cancelled.result) == (True, False, 7)


async def test_errors_are_raised_and_no_end_is_an_error() -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise RuntimeError("as wanted")

    with pytest.raises(RuntimeError, match="as wanted"):
        await Cancelled(fail(), 9, "at once").wait()

    async def endless(at: int) -> bool:
        return at <= MAX_AWAITS

    with pytest.raises(AssertionError, match="still not at the end"):
        await at_every_await(endless)


async def test_rounds_begin_again() -> None:
    tried: list[int] = []

    async def try_one(at: int) -> bool:
        tried.append(at)
        return at < 2

    assert await at_every_await(try_one, rounds=3) == 2
    assert tried == [1, 2] * 3
