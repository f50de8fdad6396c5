"""Transactions on control.db: whole or not at all, seen by all, errors translated, nobody waited for without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from tests.conftest import wait_for
from tests.engines.child import Child
from tidings.engines.embedded.control.database import Control, translated
from tidings.engines.embedded.control.schema import SCHEMA_VERSION
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.errors import (
    BusBusy,
    DamagedData,
    EngineError,
    IncompatibleFormat,
    StorageFull,
    StorageUnavailable,
)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path, None)
    yield control
    control.close()


def add(control: Control, name: str, **how: bool) -> None:
    with control.write(**how) as run:
        run("INSERT INTO groups (name) VALUES (?)", (name,))


def names(control: Control) -> list[str]:
    return [row[0] for row in control.read("SELECT name FROM groups ORDER BY 1")]


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_written_is_seen_by_others(control: Control, tmp_path: Path, durable: bool) -> None:
    other = Control(tmp_path, None)
    add(control, "one", durable=durable)
    assert names(other) == ["one"]
    add(other, "two", durable=durable)
    assert names(control) == ["one", "two"]
    other.close()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_takes_everything_back(control: Control, error: type[BaseException]) -> None:
    def break_off() -> None:
        with control.write(durable=True) as run:
            run("INSERT INTO groups (name) VALUES ('half')")
            raise error

    with pytest.raises(error):
        break_off()
    assert names(control) == []
    add(control, "whole")
    assert names(control) == ["whole"]


def test_only_a_durable_write_is_synced(control: Control) -> None:
    levels = []
    for durable in (True, False):
        with control.write(durable=durable) as run:
            levels.append(run("PRAGMA synchronous").get)
    assert levels == [2, 1]


def test_in_memory_there_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    control = Control(None, None)
    add(control, "one")
    assert names(control) == ["one"]
    assert list(tmp_path.iterdir()) == []
    control.close()


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    Control(tmp_path, None).close()
    connection = apsw.Connection(str(tmp_path / "control.db"))
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(IncompatibleFormat, match="upgrade"):
        Control(tmp_path, None)


def test_a_file_that_is_no_database_is_damage(tmp_path: Path) -> None:
    (tmp_path / "control.db").write_bytes(b"not a database, but as long as the header of one would be" * 20)
    with pytest.raises(DamagedData) as damage:
        Control(tmp_path, None)
    assert damage.value.file == str(tmp_path / "control.db")


HOLDER = """
    import sys
    from pathlib import Path
    from tidings.engines.embedded.control.database import Control
    control = Control(Path(sys.argv[1]), None)
    with control.write() as run:
        run("INSERT INTO groups (name) VALUES ('half')")
        print("held")
        sys.stdin.read()
"""


def test_a_stopped_writer_holds_nobody_up_for_longer_than_the_bound_and_a_killed_one_nobody(
    control: Control, tmp_path: Path
) -> None:
    add(control, "before")
    with Child(HOLDER, tmp_path) as child:
        assert child.line() == "held"
        child.stop()
        with pytest.raises(WouldBlock), control.write(0):
            raise AssertionError("two writers at once")
        with pytest.raises(BusBusy), control.write(0.05):
            raise AssertionError("two writers at once")
        assert names(control) == ["before"], "reading waits for nobody"
        child.kill()
    add(control, "after")
    assert names(control) == ["after", "before"]


def test_reading_does_not_wait_for_a_thread_that_waits_to_write(control: Control, tmp_path: Path) -> None:
    add(control, "before")
    with ThreadPoolExecutor(2) as pool:
        with Child(HOLDER, tmp_path) as child:
            assert child.line() == "held"
            writing = pool.submit(add, control, "after")
            wait_for(lambda: any(thread.name == "tidings-lock" for thread in threading.enumerate()))
            assert pool.submit(names, control).result(3) == ["before"]
            child.kill()
        writing.result(10)
    assert names(control) == ["after", "before"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (apsw.FullError, StorageFull),
        (apsw.BusyError, BusBusy),
        (apsw.ReadOnlyError, StorageUnavailable),
        (apsw.CantOpenError, StorageUnavailable),
        (apsw.IOError, StorageUnavailable),
        (apsw.CorruptError, DamagedData),
        (apsw.NotADBError, DamagedData),
        (apsw.SQLError, EngineError),
    ],
)
def test_no_error_of_the_driver_leaks(error: type[apsw.Error], kind: type[EngineError]) -> None:
    with pytest.raises(kind, match=r"control\.db") as told, translated("control.db"):
        raise error("why")
    assert isinstance(told.value.__cause__, error)
