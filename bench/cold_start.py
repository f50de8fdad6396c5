"""Cold start: what `import tidings` adds to a bare interpreter, and the wall time of `tidings publish`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measuring.sides import OURS, Goal, Missing, Result, Round, Row, Setting, take_turns

ROUNDS = 15
COMMAND_SECONDS = 30.0


def _wall_ms(command: list[str], environment: dict[str, str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=COMMAND_SECONDS)
    return (time.perf_counter() - begin) * 1000


@contextmanager
def _python(statement: str, module: str = "") -> Iterator[Round]:
    if module and importlib.util.find_spec(module) is None:
        raise Missing(f"{module} is not installed")
    yield lambda: _wall_ms([sys.executable, "-c", statement], dict(os.environ))


@contextmanager
def _publish(setting: Setting) -> Iterator[Round]:
    installed = Path(sys.executable).with_name("tidings")
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "tidings.cli.main"]
    with setting.bus() as url:
        environment = {**os.environ, "TIDINGS_URL": url}
        yield lambda: _wall_ms([*program, "publish", "orders/placed", '{"order_id": 1}'], environment)


def _added(result: Result, name: str) -> list[float]:
    """Round by round, what the side takes beyond the bare interpreter of the same round."""
    return [full - bare for full, bare in zip(result.figures[name], result.figures["python"], strict=True)]


def run(setting: Setting) -> list[Row]:
    """Both goals are absolute; redis-py's import and a bare interpreter are there to compare."""
    rounds = setting.scaled(ROUNDS, 7)
    sides = {
        OURS: _python("import tidings"),
        "python": _python("pass"),
        "import redis": _python("import redis", "redis"),
        "import nats": _python("import nats", "nats"),
    }
    imports = take_turns(sides, rounds)
    beyond = {name: _added(imports, name) for name in imports.figures if name != "python"}
    added = Result(beyond, imports.absent)
    goal = Goal(60, at_most=True, absolute=True)
    command = take_turns({OURS: _publish(setting), "python -c pass": _python("pass")}, rounds)
    how = "wall time of python -c 'import ...' beyond python -c pass"
    return [
        added.row("import tidings", "ms", how, reference="import redis", goal=goal),
        added.row("import tidings", "ms", how, reference="import nats"),
        command.row(
            "tidings publish",
            "ms",
            "wall time of the command, default durability, bus exists already",
            reference="python -c pass",
            goal=Goal(150, at_most=True, absolute=True),
        ),
    ]
