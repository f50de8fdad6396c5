"""The blocking client is what the async one says: files up to date, rules of translation sound."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "generate_blocking.py"


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module of its own whose source and target folders are empty ones in `tmp_path`."""
    specification = importlib.util.spec_from_file_location("generate_blocking", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name, folder in (("SOURCE", "aio"), ("TARGET", "blocking")):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(module, name, tmp_path / folder)
    monkeypatch.setattr(module, "SINGLE", {})
    return module


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    status: int = module.main()
    return status


def test_generated_files_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("async def f():\n    return await g()\n", "def f():\n    return g()\n"),
        ("async with a as b, c:\n    pass\n", "with a as b, c:\n    pass\n"),
        ("x = [y async for y in z]\n", "x = [y for y in z]\n"),
        ("async def f(): # await this\n  pass\n", "def f(): # await this\n  pass\n"),
        ("(await a).b(await  c)\n", "(a).b(c)\n"),
        ("class AsyncClient(_AsyncBase): ...\n", "class Client(_Base): ...\n"),
        ("MyAsyncThing = AsyncIterator\n", "MyAsyncThing = Iterator\n"),
        ("def __aenter__(self): ...\n", "def __enter__(self): ...\n"),
        ("async def __aexit__(self, *a): ...\n", "def __exit__(self, *a): ...\n"),
        ("x.__aiter__().__anext__()\n", "x.__iter__().__next__()\n"),
        ("await anext(aiter(x))\n", "next(iter(x))\n"),
        ("raise StopAsyncIteration\n", "raise StopIteration\n"),
        ("await self._feed.aclose()\n", "self._feed.close()\n"),
        (
            "from tidings.client.aio.runtime import Lock\n",
            "from tidings.client.blocking.runtime import Lock\n",
        ),
        ("from tidings.client import aio\n", "from tidings.client import blocking\n"),
        ("@asynccontextmanager\n", "@contextmanager\n"),
        ("AsyncExitStack().enter_async_context(x)\n", "ExitStack().enter_context(x)\n"),
        ("'''Cancelling an await loses nothing.'''\n", "'''Cancelling an await loses nothing.'''\n"),
        ("'''Use `async with x:` and `await m.ack()`.'''\n", "'''Use `with x:` and `m.ack()`.'''\n"),
        ("'''An AsyncClient is an async client.'''\n", "'''A Client is a blocking client.'''\n"),
        ("# an `AsyncLock`, an `AsyncEngine`\n", "# a `Lock`, an `Engine`\n"),
        ("x = f'{await y.z()} AsyncClient'\n", "x = f'{y.z()} Client'\n"),
        ("awaited = is_async = asynchronous\n", "awaited = is_async = asynchronous\n"),
    ],
)
def test_translation(generator: ModuleType, source: str, expected: str) -> None:
    assert generator.blocking_text(source) == expected


def test_translation_is_at_rest(generator: ModuleType) -> None:
    once = generator.blocking_text("async def f():\n    async with AsyncLock() as x:\n        await x.aclose()\n")
    assert generator.blocking_text(once) == once


def test_asyncio_has_no_blocking_form(generator: ModuleType) -> None:
    with pytest.raises(generator.NotTranslatable, match=r"line 2 mentions asyncio.*runtime\.py"):
        generator.blocking_text("x = 1\nimport asyncio\n")


def test_a_stale_missing_or_left_over_file_is_told(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (generator.SOURCE / "client.py").write_text('"""Doc."""\n\n\nasync def go() -> None:\n    await other.go()\n')
    (generator.SOURCE / "runtime.py").write_text('"""By hand."""\nimport asyncio\n')
    (generator.TARGET / "runtime.py").write_text('"""By hand."""\nimport threading\n')
    assert run(generator, monkeypatch, "--check") == 1
    assert "+    other.go()" in capsys.readouterr().out

    assert run(generator, monkeypatch) == 0
    assert run(generator, monkeypatch, "--check") == 0
    made = (generator.TARGET / "client.py").read_text()
    assert made.startswith("# Generated from aio/client.py")
    assert made.endswith('"""Doc."""\n\n\ndef go() -> None:\n    other.go()\n')
    assert "threading" in (generator.TARGET / "runtime.py").read_text()

    (generator.TARGET / "gone.py").write_text("x = 1\n")
    assert run(generator, monkeypatch, "--check") == 1
    assert "gone.py: has no source" in capsys.readouterr().out
    assert run(generator, monkeypatch) == 0
    assert not (generator.TARGET / "gone.py").exists()


def test_no_source_at_all_is_an_error(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(generator, monkeypatch, "--check") == 1


def test_output_has_the_house_format(generator: ModuleType) -> None:
    path = generator.SOURCE / "format.py"
    path.write_text("import sys\nimport os\nasync def f( a ):\n    return await  a.b(sys, os)\n")
    text = generator.generate(path)
    assert "import os\nimport sys\n\n\ndef f(a):\n    return a.b(sys, os)\n" in text
