"""Imports go down only: the contracts of pyproject.toml hold, and they catch what they should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
USERS = ("tidings.cli", "tidings.gateway", "tidings.patterns", "tidings.exchange", "tidings.testing")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_only_users_of_the_client_import_the_face_of_the_package() -> None:
    graph = grimp.build_graph("tidings", cache_dir=None)
    importers = graph.find_modules_that_directly_import("tidings")
    climbing = {module for module in importers if not module.startswith(USERS)}
    assert climbing == set(), "a lower floor imports the face, which imports everything: a circle"


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("model/retry.py", "from tidings.client import connect", "Imports go down only"),
        ("engines/redis.py", "def late():\n    from tidings.client import connect", "Imports go down only"),
        ("helpers.py", "", "Imports go down only"),
        ("model/retry.py", "from tidings.model import topics", "No circles inside a floor"),
        ("engines/redis.py", "from tidings.engines import embedded", "An engine never imports another"),
        ("model/retry.py", "import sqlite3", "The model does no I/O"),
        ("cli/main.py", "from tidings.engines import embedded", "The command line uses the client"),
    ],
)
def test_a_planted_break_is_caught(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    package = tmp_path / "src" / "tidings"
    house = {
        "errors.py": "",
        "spi.py": "from tidings.model import topics",
        "model/retry.py": "from tidings import errors",
        "model/topics.py": "from tidings.model import retry",
        "engines/embedded.py": "from tidings import spi\nimport sqlite3",
        "client/connect.py": "from tidings import spi",
        "cli/main.py": "from tidings.client import connect",
    }
    for name, text in house.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for folder in {path.parent for path in package.rglob("*.py")} | {package}:
        (folder / "__init__.py").touch()
    assert lint(tmp_path).returncode == 0

    path = package / module
    path.write_text(line if module not in house else house[module] + "\n" + line)
    done = lint(tmp_path)

    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(text.startswith(contract) for text in broken), done.stdout
