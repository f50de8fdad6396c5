"""The documentation tells the truth: its examples run, its links lead somewhere, its verbs exist.

Every ```python block runs in a fresh folder. Of a ```console or ```bash block the `tidings` commands run, and
every line that ends in `# run`; in a console block the lines below a `$ command` are the output it must have. What
the guide says of tables and limits is compared with the code.
A comment before a block changes that:

    <!-- output: TEXT -->      what the block prints; `...` stands for anything
    <!-- continues -->         the block goes on where the one before it stopped: same folder, same names
    <!-- not run: REASON -->   the block is shown only
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidings.client.aio.statements import DEAD_LETTER_BYTES, MAX_DEAD_LETTERS
from tidings.client.tables.columns import Column
from tidings.client.tables.database import MAX_RESULT_ROWS, QUERY_BYTES, QUERY_SECONDS, RESULT_BYTES
from tidings.client.tables.lockdown import STATEMENT_BYTES, VALUE_BYTES
from tidings.client.tables.logs import LOG_COLUMNS, MAX_SCANNED_MESSAGES
from tidings.client.tables.snapshots import SYSTEM_TABLES

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
PAGES = [page for page in (README, *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
SECONDS = 50  # an example that takes longer is no example
HERE = "<-- here begins the output of the block itself"  # the blocks it continues print before

BLOCK = re.compile(
    r"(?:<!--(?P<comment>(?:(?!-->).)*)-->[ ]*\n\s*)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.MULTILINE | re.DOTALL,
)
# Runs a file as a reader would paste it: `await` and `async with` are welcome at the top.
RUNNER = f"""
import asyncio, sys
from pathlib import Path
code = compile(Path(sys.argv[1]).read_text(), sys.argv[1], "exec", flags={ast.PyCF_ALLOW_TOP_LEVEL_AWAIT})
waiting = eval(code, {{"__name__": "__main__"}})
if waiting is not None:
    asyncio.run(waiting)
"""


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, what it says, and what the comment before it says."""

    page: str
    line: int
    language: str
    text: str
    comment: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def continues(self) -> bool:
        return self.comment.startswith("continues")

    @property
    def runs(self) -> bool:
        return self.language in ("python", "console", "bash") and not self.comment.startswith("not run:")

    @property
    def output(self) -> str | None:
        """What it must print, or None where anything will do."""
        if "output:" in self.comment:
            return self.comment.partition("output:")[2]
        if self.language == "console":
            lines = [line for line in self.text.splitlines() if not line.startswith("$ ")]
            return "\n".join(lines) if any(map(str.strip, lines)) else None
        return None


def blocks(page: str, text: str) -> Iterator[Block]:
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        yield Block(page, line, found["language"], body, (found["comment"] or "").strip())


def chains(found: list[Block]) -> list[list[Block]]:
    """The blocks that run, each with those that continue it."""
    made: list[list[Block]] = []
    for block in found:
        if block.continues:
            made[-1].append(block)
        elif block.runs:
            made.append([block])
    return made


def commands(block: Block) -> list[str]:
    """The lines of a shell block that run; of a console block all that have an output below them must."""
    console = block.language == "console"
    lines = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ") or not console]
    return [line for line in lines if re.match(r"(\w+=\S+ )*tidings\b", line) or line.endswith("# run")]


def program(folder: Path, done: list[Block], block: Block) -> list[str]:
    """The command line that runs `block`, after the Python blocks that it continues."""
    if block.language == "python":
        said = "".join(earlier.text for earlier in done if earlier.language == "python")
        path = folder / f"block{len(done)}.py"
        path.write_text(f"{said}\nprint({HERE!r})\n{block.text}", encoding="utf-8")
        return [sys.executable, "-W", "error", "-c", RUNNER, str(path)]
    script = "\n".join(["trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *commands(block)])
    return ["bash", "-eu", "-o", "pipefail", "-c", script]


def run(folder: Path, chain: list[Block]) -> None:
    """Run the blocks in order, compare what they print."""
    environment = {
        **os.environ,
        "TIDINGS_URL": f"file:{folder / 'bus'}",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "NO_COLOR": "1",
    }
    for number, block in enumerate(chain):
        done = subprocess.run(
            program(folder, chain[:number], block),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block} failed:\n{done.stdout}"
        if block.output is not None:
            assert matches(block.output, done.stdout.rpartition(HERE)[2]), f"{block} printed:\n{done.stdout}"


def matches(expected: str, printed: str) -> bool:
    """Whether they are equal line by line, blanks at the edges aside; `...` stands for anything."""
    shape = re.escape(_trimmed(expected)).replace(re.escape("..."), ".*")
    return re.fullmatch(shape, _trimmed(printed), re.DOTALL) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


CHAINS = [chain for page in PAGES for chain in chains(list(blocks(page.name, page.read_text(encoding="utf-8"))))]


def test_there_is_a_readme_with_examples() -> None:
    assert README.is_file()
    assert any(block.language == "python" for chain in CHAINS for block in chain if block.page == "README.md")


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: str(chain[0]))
def test_example(chain: list[Block], tmp_path: Path) -> None:
    run(tmp_path, chain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    prose = BLOCK.sub("", text)
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", prose)
    assert [link for link in links if not (page.parent / link).exists()] == []

    verbs = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make (\w+)", text, re.MULTILINE)) - verbs == set()

    unexplained = [str(block) for block in blocks(page.name, text) if re.match(r"not run\b:?\s*$", block.comment)]
    assert unexplained == [], "a block that does not run gives its reason"


def shown_table(name: str, doc: str, columns: Sequence[Column]) -> str:
    """A table of queries as the guide has it."""
    rows = [f"| `{column.name}` | {_phrase(column.doc)} |" for column in columns]
    return "\n".join([f"**{name}**: {_phrase(doc)}.", "", "| column | is |", "|---|---|", *rows, ""])


def _phrase(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:].removesuffix(".")


TABLES = [
    *(shown_table(f"SYSTEM.{name}", table.doc, table.columns) for name, table in SYSTEM_TABLES.items()),
    shown_table("Topics", "The messages that are stored, and a column for each one of the schema.", LOG_COLUMNS),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.split("**")[1])
def test_the_guide_has_every_table_of_queries(table: str) -> None:
    assert table in GUIDE.read_text(encoding="utf-8"), f"write into the guide:\n\n{table}"


LIMITS = f"""
| {QUERY_SECONDS:g} seconds, {QUERY_BYTES >> 20} MiB of memory, {STATEMENT_BYTES >> 10} KiB of SQL, \
{VALUE_BYTES >> 20} MiB for one value or row | `QueryTooLarge` |
| {MAX_SCANNED_MESSAGES:,} messages read | left out, and `notes` say so |
| {MAX_RESULT_ROWS:,} rows, or {RESULT_BYTES >> 20} MiB of them | left out, and `notes` say so |
| {MAX_DEAD_LETTERS:,} dead letters, or {DEAD_LETTER_BYTES >> 20} MiB of them | left out, and `notes` say so |
"""


def test_the_guide_has_the_limits_of_queries() -> None:
    assert LIMITS in GUIDE.read_text(encoding="utf-8"), f"write into the guide:\n{LIMITS}"


PAGE = """
<!-- output: 1 ... 3 -->
```python
print(1, 2, 3)
text = '''a
b'''
```
<!-- continues output: 'a\\nb' -->
```python
print(repr(text))
```

1. An item:
   ```console
   $ echo hidden
   $ echo shown  # run
   shown
   ```

<!-- not run: it is a sketch -->
```python
1 / 0
```
```json
{}
```
<!-- continues -->
```python
import asyncio
await asyncio.sleep(0)
```
"""


def test_blocks_are_found_and_run(tmp_path: Path) -> None:
    found = chains(list(blocks("page.md", PAGE)))
    assert [[str(block) for block in chain] for chain in found] == [
        ["page.md:3", "page.md:9"],
        ["page.md:14", "page.md:28"],
    ]
    assert commands(found[1][0]) == ["echo shown  # run"]
    for chain in found:
        run(tmp_path, chain)


@pytest.mark.parametrize(
    "page",
    [
        "```python\n1 / 0\n```\n",
        "<!-- output: 2 -->\n```python\nprint(1)\n```\n",
        "```bash\nfalse # run\n```\n",
        "```console\n$ echo 1 # run\n2\n```\n",
    ],
)
def test_a_lie_is_caught(page: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page\.md:[12] (failed|printed)"):
        run(tmp_path, chains(list(blocks("page.md", page)))[0])
