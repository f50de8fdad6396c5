"""Makes the blocking client from the async one, so that there is one source of truth and no hand-kept twin.

    python scripts/generate_blocking.py            write client/blocking/*.py and exchange/blocking.py
    python scripts/generate_blocking.py --check    exit 1 with a diff when a file is stale

`runtime.py` is not generated: it holds the few primitives that differ (spawning, locks, sleeping) and is
written twice by hand. Whatever else needs asyncio belongs there too: mentioning it elsewhere is an error.
"""

from __future__ import annotations

import argparse
import difflib
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tidings"
SOURCE = PACKAGE / "client" / "aio"
TARGET = PACKAGE / "client" / "blocking"
HAND_WRITTEN = frozenset({"runtime.py"})
SINGLE = {PACKAGE / "exchange" / "aio.py": PACKAGE / "exchange" / "blocking.py"}

# Words that differ between the two worlds, wherever they stand: code, docstrings and comments alike.
WORDS: tuple[tuple[str, str], ...] = (
    (r"\b([Aa])n (`*)Async(?=[BCDFGHJ-NP-TV-Z])", r"\1 \2"),
    (r"\b(_*)Async(?=[A-Z])", r"\1"),
    (r"\bAbstractAsyncContextManager\b", "AbstractContextManager"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\benter_async_context\b", "enter_context"),
    (r"\bpush_async_callback\b", "callback"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\ba(iter|next)(?=\()", r"\1"),
    (r"\baclose\b", "close"),
    (r"\baclosing\b", "closing"),
    (r"\b([Aa])n async client\b", r"\1 blocking client"),
    (r"\basync client\b", "blocking client"),
    (r"\b(client|exchange)([./])aio\b", r"\1\2blocking"),
    (r"\bfrom tidings\.client import aio\b", "from tidings.client import blocking"),
)
# What is left of the keywords after the code lost them stands in examples: docstrings, comments, f-strings.
EXAMPLES: tuple[tuple[str, str], ...] = (
    (r"\basync (?=(?:with|for|def) )", ""),
    (r"\bawait (?=\w+[.(])", ""),
)


class NotTranslatable(Exception):
    """A source needs something that has no blocking form."""


def blocking_text(source: str) -> str:
    """The blocking form of `source`, not yet formatted."""
    text = _without_keywords(source)
    for pattern, replacement in (*WORDS, *EXAMPLES):
        text = re.sub(pattern, replacement, text)
    if found := re.search(r"\basyncio\b", text):
        line = text.count("\n", 0, found.start()) + 1
        raise NotTranslatable(f"line {line} mentions asyncio: move that into runtime.py, which has a blocking twin")
    return text


def _without_keywords(source: str) -> str:
    """Drops the tokens `async` and `await` with the blanks after them; every other character stays."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    kept, position = [], 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string in ("async", "await"):
            begin = starts[token.start[0] - 1] + token.start[1]
            end = starts[token.end[0] - 1] + token.end[1]
            kept.append(source[position:begin])
            position = end + len(source[end:]) - len(source[end:].lstrip(" "))
    return "".join(kept) + source[position:]


def generate(path: Path) -> str:
    """The finished text of the twin of `path`: translated, imports sorted, formatted."""
    text = blocking_text(path.read_text(encoding="utf-8"))
    source = path.name if path in SINGLE else f"aio/{path.name}"
    header = f"# Generated from {source} by scripts/generate_blocking.py; do not edit.\n"
    return _formatted(header + text, twin(path))


def twin(path: Path) -> Path:
    """Where the blocking form of a source stands."""
    return SINGLE.get(path, TARGET / path.name)


def _formatted(text: str, path: Path) -> str:
    for arguments in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(path), "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise NotTranslatable(f"ruff {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        text = done.stdout
    return text


def wanted() -> dict[Path, str]:
    """Every generated file and the text it should have."""
    texts: dict[Path, str] = {}
    for path in (*sorted(SOURCE.glob("*.py")), *SINGLE):
        if path.name not in HAND_WRITTEN:
            try:
                texts[twin(path)] = generate(path)
            except NotTranslatable as error:
                raise SystemExit(f"{path}: {error}") from None
    return texts


def left_over(texts: dict[Path, str]) -> list[Path]:
    """Files in the target folder whose source is gone."""
    return [path for path in TARGET.glob("*.py") if path not in texts and path.name not in HAND_WRITTEN]


def check(texts: dict[Path, str]) -> list[str]:
    """The diffs between what is there and what should be; empty when all is well."""
    problems = [f"{path}: has no source in {SOURCE.name}/" for path in left_over(texts)]
    for path, text in texts.items():
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if old != text:
            lines = difflib.unified_diff(
                old.splitlines(keepends=True), text.splitlines(keepends=True), str(path), "generated"
            )
            problems.append("".join(lines))
    return problems


def write(texts: dict[Path, str]) -> None:
    """Brings the target folder up to date; untouched files keep their time."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for path in left_over(texts):
        path.unlink()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the blocking client from the async one.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is stale")
    arguments = parser.parse_args()
    texts = wanted()
    if not any(SOURCE.glob("*.py")):
        print(f"no sources in {SOURCE}", file=sys.stderr)
        return 1
    if arguments.check:
        problems = check(texts)
        print("\n".join(problems), end="")
        return 1 if problems else 0
    write(texts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
