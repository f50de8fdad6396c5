"""Every source file has its test file, at the same place in the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tidings"
TESTS = ROOT / "tests"

# Source files without a test file of their own, and why.
EXEMPT = {
    "__init__.py": "re-exports only; tests/architecture/test_import.py looks at the face of the package",
}

SOURCES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def generated(source: str) -> bool:
    """The blocking client is made from the async one; test_generated.py looks after it."""
    path = Path(source)
    return path == Path("exchange/blocking.py") or (
        path.parent == Path("client/blocking") and path.name != "runtime.py"
    )


def is_test(source: str) -> bool:
    """The cases of the conformance suite are tests themselves; they run with these."""
    path = Path(source)
    return path.is_relative_to("testing/conformance") and path.name.startswith("test_")


@pytest.mark.parametrize("source", [source for source in SOURCES if not generated(source) and not is_test(source)])
def test_source_has_its_test(source: str) -> None:
    path = Path(source)
    test = TESTS / path.parent / f"test_{path.name}"
    assert path.name in EXEMPT or test.is_file(), f"{source} needs {test.relative_to(ROOT)}"


def test_the_package_is_found() -> None:
    assert "errors.py" in SOURCES
    assert generated("client/blocking/client.py")
    assert generated("exchange/blocking.py")
    assert not generated("client/blocking/runtime.py")
    assert is_test("testing/conformance/test_publish.py")
