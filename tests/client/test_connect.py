"""From a URL to an engine: the default, the schemes, other packages' schemes, and what a wrong one is told."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tidings.client import connect
from tidings.client.connect import ASYNC, BLOCKING, open_engine
from tidings.errors import InvalidURL, PackageMissing
from tidings.model.url import URL

GROUP = "tidings.engines"

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def opened(url: URL) -> URL:
    """An engine that is its URL."""
    return url


TABLE = dict.fromkeys(("file", "memory"), f"{__name__}:opened")


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDINGS_URL", raising=False)


def test_without_a_url_the_environment_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_engine(None, TABLE, GROUP) == URL("file", "./.tidings", {})
    monkeypatch.setenv("TIDINGS_URL", "memory:from-outside")
    assert open_engine(None, TABLE, GROUP).path == "from-outside"
    assert open_engine("file:mine", TABLE, GROUP).path == "mine"
    monkeypatch.setenv("TIDINGS_URL", "")
    assert open_engine(None, TABLE, GROUP) == URL("file", "./.tidings", {})


@pytest.mark.parametrize("url", ["", "nowhere", "/var/lib/bus", ":", "a b:c"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL, match="scheme:place"):
        open_engine(url, TABLE, GROUP)


@pytest.mark.parametrize(("url", "hint"), [("flie:x", "did you mean 'file'"), ("smtp:x", "knows file, memory")])
def test_an_unknown_scheme_is_told_what_there_is(url: str, hint: str) -> None:
    with pytest.raises(InvalidURL, match=f"no engine for '{url.partition(':')[0]}' URLs.*{hint}"):
        open_engine(url, TABLE, GROUP)


def test_other_packages_add_schemes_but_take_none_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, str]] = []

    class Entry:
        def load(self) -> Any:
            return lambda url: ("plugin", url)

    def find(**wanted: str) -> list[Entry]:
        asked.append(wanted)
        return [Entry()]

    monkeypatch.setattr(importlib.metadata, "entry_points", find)
    assert open_engine("pigeon+udp:loft?wings=2", TABLE, GROUP) == ("plugin", URL("pigeon+udp", "loft", {"wings": "2"}))
    assert open_engine("file:x", TABLE, GROUP) == URL("file", "x", {})
    assert asked == [{"group": GROUP, "name": "pigeon+udp"}]


def test_a_broker_whose_driver_is_missing_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pigeon_engine.py").write_text("import pigeon_driver.loft")
    (tmp_path / "broken_engine.py").write_text("import tidings.no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(connect.BROKERS, "pigeon", "pigeons")
    with pytest.raises(PackageMissing, match=r"pigeon: URLs needs a package .*pip install 'tidings\[pigeons\]'"):
        open_engine("pigeon://loft", {"pigeon": "pigeon_engine:open"}, GROUP)
    with pytest.raises(ModuleNotFoundError, match=r"tidings\.no_such_module"):
        open_engine("pigeon://loft", {"pigeon": "broken_engine:open"}, GROUP)
    with pytest.raises(ModuleNotFoundError, match="pigeon_driver"):
        open_engine("file://loft", {"file": "pigeon_engine:open"}, GROUP)


def test_every_broker_names_the_extra_that_brings_its_driver() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    assert set(connect.BROKERS.values()) <= set(extras)
    assert set(connect.BROKERS) == {scheme for scheme, target in BLOCKING.items() if ".embedded." not in target}


async def test_every_scheme_of_the_tables_opens(tmp_path: Path) -> None:
    assert BLOCKING.keys() == ASYNC.keys() >= {connect.DEFAULT_URL.partition(":")[0]}
    for scheme in BLOCKING:
        place = "//127.0.0.1:9" if scheme in connect.BROKERS and "ipc" not in scheme else tmp_path / scheme
        engine = open_engine(f"{scheme}:{place}", BLOCKING, GROUP)  # nobody is there, and nobody is asked yet
        other = open_engine(f"{scheme}:{place}", ASYNC, GROUP)
        assert engine.name == other.name
        assert engine.capabilities == other.capabilities
        engine.close()
        await other.close()
