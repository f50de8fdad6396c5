"""Measuring: sides taken in turn, medians over rounds, ratios with their spread, and the goal of each row."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

OURS = "tidings"
MESSAGE_BYTES = 200
CLOCK_EVERY = 8  # operations between two looks at the clock: keeps its cost far below the cheapest operation

Round = Callable[[], float]
Side = AbstractContextManager[Round]
Figures = dict[str, list[float]]


class Missing(Exception):
    """A reference is not installed here; its rows say so instead of showing a figure."""


@dataclass(frozen=True)
class Setting:
    """How long and how large one run of the benchmarks is."""

    folder: Path
    quick: bool = False
    grain: int = 1

    @property
    def rounds(self) -> int:
        return (4 if self.quick else 10) * self.grain

    @property
    def seconds(self) -> float:
        """Length of one round of one side: short, so that all sides of a round meet the same machine."""
        return (0.15 if self.quick else 0.3) / self.grain

    def finer(self) -> Setting:
        """Four times as many rounds of a quarter of the length, for work whose price changes from moment to moment."""
        return replace(self, grain=4)

    @contextmanager
    def bus(self) -> Iterator[str]:
        """The URL of a new bus directory, removed afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="bus-") as folder:
            yield f"file:{folder}"

    def scaled(self, count: int, quick: int) -> int:
        return quick if self.quick else count


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio (ours / reference) or, with `absolute`, on our own figure."""

    bound: float
    at_most: bool = False
    absolute: bool = False

    def met(self, ours: float, ratio: float | None) -> bool | None:
        value = ours if self.absolute else ratio
        if value is None:
            return None
        return value <= self.bound if self.at_most else value >= self.bound

    def text(self, unit: str) -> str:
        sign = "<=" if self.at_most else ">="
        bound = f"{self.bound:,.0f}" if self.bound >= 1000 else f"{self.bound:g}"
        return f"{sign} {bound} {unit}" if self.absolute else f"{sign} {bound} x"


@dataclass
class Row:
    """One line of the table: our figure beside a reference, and whether the goal is met."""

    work: str
    unit: str
    how: str
    goal: str = ""
    ours: float | None = None
    reference: str = ""
    reference_figure: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    met: bool | None = None
    rounds: int = 0
    note: str = ""


@dataclass
class Result:
    """What a set of sides gave: the figures of every round, and why which references are absent."""

    figures: Figures = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def mapped(self, convert: Callable[[float], float]) -> Result:
        """The same rounds in another unit, e.g. seconds per message from messages per second."""
        figures = {name: [convert(value) for value in values] for name, values in self.figures.items()}
        return Result(figures, self.absent)

    def row(self, work: str, unit: str, how: str, *, reference: str = "", goal: Goal | None = None) -> Row:
        """The row that sets our figures against `reference` (none: our figure alone)."""
        ours = self.figures[OURS]
        row = Row(work, unit, how, ours=statistics.median(ours), reference=reference, rounds=len(ours))
        if reference in self.absent:
            row.note = self.absent[reference]
        elif reference:
            theirs = self.figures[reference]
            ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
            row.reference_figure = statistics.median(theirs)
            row.ratio, row.spread = statistics.median(ratios), _middle_half(ratios)
        if goal is not None:
            row.goal = goal.text(unit)
            row.met = goal.met(statistics.median(ours), row.ratio)
        return row


def _middle_half(values: list[float]) -> tuple[float, float]:
    """The first and the third quartile: half of the rounds lie between them."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def take_turns(sides: Mapping[str, Side], rounds: int) -> Result:
    """Open every side, run one unrecorded round each, then `rounds` rounds in alternating order.

    Sides take turns so that a slow minute of the machine hits all of them; every other round the order is
    reversed.
    A side that raises `Missing` while it opens is left out and noted.
    """
    result = Result()
    with ExitStack() as stack:
        opened: dict[str, Round] = {}
        for name, side in sides.items():
            try:
                opened[name] = stack.enter_context(side)
            except Missing as reason:
                result.absent[name] = f"{reason}: skipped"
        for run in opened.values():
            run()
        result.figures = {name: [] for name in opened}
        for index in range(rounds):
            order = list(opened) if index % 2 == 0 else list(reversed(opened))
            for name in order:
                result.figures[name].append(opened[name]())
    return result


def rate(operation: Callable[[], object], seconds: float, limit: int = 5_000_000) -> float:
    """Operations per second of calling `operation` for about `seconds`, at most `limit` times."""
    clock = time.perf_counter
    done = 0
    begin = now = clock()
    end = begin + seconds
    while now < end and done < limit:
        for _ in range(CLOCK_EVERY):
            operation()
        done += CLOCK_EVERY
        now = clock()
    return done / (now - begin)


def sample(**extra: object) -> dict[str, object]:
    """A message whose compact JSON is exactly 200 bytes."""
    data: dict[str, object] = {"order_id": 1_000_001, "customer": "user-4711", "total": 42.5, "paid": True}
    data |= {**extra, "note": ""}
    data["note"] = "x" * (MESSAGE_BYTES - len(msgspec.json.encode(data)))
    return data
