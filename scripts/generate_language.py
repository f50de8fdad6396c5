"""Makes the reference page of the language from its grammar, its functions and the options of topics.

    python scripts/generate_language.py            write docs/language.md
    python scripts/generate_language.py --check    exit 1 with a diff when the page is stale

In `grammar.lark`, `//#` begins a section, `//!` is prose, `//>` an example, and `//=` names what is made here.
An example that is a condition ends in ` -- ` and what it is for `SAMPLE`: true, false or NULL. The rules of a section
are shown as they are, without the marks that only the parser needs.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tidings.lang.parser import MAX_STATEMENTS_BYTES
from tidings.lang.topic_options import OPTIONS
from tidings.model.message import Message, StoredRecord
from tidings.model.options import PERIODS, TopicOptions
from tidings.model.predicate.operations import FUNCTIONS
from tidings.model.predicate.tree import MAX_DEPTH, MAX_FILTER_BYTES, MAX_NODES

ROOT = Path(__file__).resolve().parent.parent
GRAMMAR = ROOT / "src" / "tidings" / "lang" / "grammar.lark"
PAGE = ROOT / "docs" / "language.md"

DATA = {
    "status": "placed",
    "priority": "high",
    "total": 250,
    "paid": True,
    "coupon": None,
    "discount": "10% off",
    "tags": ["gift", "eu"],
    "customer": {"name": "Grace", "email": "grace@example.com"},
    "items": [{"sku": "A-1", "quantity": 2}, {"sku": "B-2", "quantity": 1}],
    "ordered_at": "2026-05-04T10:30:00Z",
    "note": '{"gift": true}',
    "odd name": 1,
    "headers": "a field of this name",
}

SAMPLE = Message(
    record=StoredRecord(
        id="0197a1b2",
        content_type="application/json",
        data=json.dumps(DATA).encode(),
        key="customer-7",
        headers={"content-language": "en", "tidings-routing-key": '["orders", "eu"]'},
        extra={"expires": 1777896000.0},
    ),
    topic="orders/placed",
    partition=0,
    offset=41,
    published_at=1777890600.0,
    attempt=1,
    priority=8,
)

HEAD = """\
<!-- Generated from src/tidings/lang/grammar.lark by scripts/generate_language.py; do not edit. -->
# The language of filters and statements

Filters choose messages by what is in them, and statements make topics and groups, subscribe and ask questions. In the
examples of filters, what stands behind `--` is what the condition is for this message, which was published to
`orders/placed` with `priority="high"`, the partition key `customer-7` and the header `content-language: en`:

```json
{sample}
```
"""


class Example(NamedTuple):
    """One example: its text, and for a condition what it is for `SAMPLE`: "true", "false" or "NULL"."""

    text: str
    result: str | None

    @property
    def is_filter(self) -> bool:
        return self.result is not None


class Section(NamedTuple):
    """One part of the page: a title, what it says (prose, tables, examples), and the rules it explains."""

    title: str
    body: list[str]
    examples: list[Example]
    rules: list[str]


def sections() -> list[Section]:
    """The sections of the grammar in their order; what stands before the first is for its own readers."""
    found: list[Section] = []
    for line in GRAMMAR.read_text(encoding="utf-8").splitlines():
        mark, text = line[:3], line[4:]
        if mark == "//#":
            found.append(Section(text, [], [], []))
        elif found:
            _add(found[-1], mark, text, line)
    return found


def _add(section: Section, mark: str, text: str, line: str) -> None:
    if mark == "//!":
        section.body.extend(["", text] if section.body[-1:] == ["```"] else [text])
    elif mark == "//>":
        _show(section, [_example(text)])
    elif mark == "//=":
        lines, shown = TABLES[text]()
        section.body.extend(lines)
        section.examples.extend(shown)
    elif line and not line.startswith("//"):
        section.rules.append(line)


def _show(section: Section, shown: Iterable[Example]) -> None:
    """Append examples to the block of examples at the end of the section, or begin one."""
    for example in shown:
        if section.body[-1:] == ["```"]:
            section.body.pop()
        else:
            section.body.extend(["", "```sql"])
        section.body.extend([_line(example), "```"])
        section.examples.append(example)


def _example(text: str) -> Example:
    condition, mark, result = text.rpartition(" -- ")
    return Example(condition, result) if mark else Example(text, None)


def _line(example: Example) -> str:
    return f"{example.text}  -- {example.result}" if example.is_filter else f"{example.text};"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return ["", *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines), ""]


def _functions() -> tuple[list[str], list[Example]]:
    rows = [(f"`{each.call}`", each.description, f"`{each.example}` is `{each.result}`") for each in FUNCTIONS.values()]
    shown = [Example(f"{each.example} = {each.result}", "true") for each in FUNCTIONS.values()]
    return _table(("function", "what it gives", "example"), rows), shown


def _options() -> tuple[list[str], list[Example]]:
    defaults = TopicOptions()
    rows = [(f"`{name}`", _takes(name), f"`{_constant(getattr(defaults, name))}`") for name in OPTIONS]
    prose = [line.strip() for line in (TopicOptions.__doc__ or "").split("\n\n", 1)[1].splitlines()]
    explained = _in_sql("\n".join(prose).partition("\n\n`schema`")[0]).splitlines()
    return [*_table(("option", "value", "default"), rows), *explained], []


def _in_sql(text: str) -> str:
    """Constants of Python as a statement writes them."""
    return re.sub(r"\bNone\b", "NULL", re.sub(r'"(\w+)"', r"'\1'", text))


def _bounds() -> tuple[list[str], list[Example]]:
    return [
        "",
        f"A filter has at most {MAX_FILTER_BYTES:,} bytes and {MAX_NODES:,} parts, of which {MAX_DEPTH} may lie inside",
        f"each other. A text of statements has at most {MAX_STATEMENTS_BYTES:,} bytes.",
    ], []


def _takes(name: str) -> str:
    """What an option takes, by its annotation."""
    kind = TopicOptions.__annotations__[name]
    if name in PERIODS:
        words = "a period"
    elif name == "retention_bytes":
        words = "a size"
    else:
        words = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "TRUE or FALSE"}[
            kind.split()[0]
        ]
    return f"{words}, or NULL" if "None" in kind else words


def _constant(value: Any) -> str:
    """A value of an option as a statement writes it."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    return f"'{value}'" if isinstance(value, str) else f"{value:g}"


TABLES: dict[str, Callable[[], tuple[list[str], list[Example]]]] = {
    "bounds": _bounds,
    "functions": _functions,
    "options": _options,
}


def examples() -> list[Example]:
    """Every example of the page, in its order."""
    return [example for section in sections() for example in section.examples]


def page() -> str:
    """The text of the page."""
    parts = [HEAD.format(sample=_pretty(DATA)), *map(_section, sections())]
    return "\n".join(parts)


def _pretty(data: dict[str, Any]) -> str:
    fields = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in data.items()]
    return "{\n" + ",\n".join(fields) + "\n}"


def _section(section: Section) -> str:
    rules = ["", "```text", *_shown_rules(section.rules), "```"] if section.rules else []
    text = "\n".join([f"## {section.title}", *section.body, *rules])
    return re.sub(r"\n{3,}", "\n\n", text) + "\n"


def _shown_rules(rules: list[str]) -> Iterator[str]:
    """The rules without names of methods, and without the marks that shape what the methods get."""
    for rule in rules:
        plain = re.sub(r"\s+->\s\w+", "", rule)
        plain = re.sub(r"^\?|(?<![\w./\\])_(?=[a-z])", "", plain)
        if not re.fullmatch(_SIGN, plain):
            yield re.sub(r"\b[A-Z]+\b", lambda found: SIGNS.get(found[0], found[0]), plain)


_SIGN = r'([A-Z]+): (".+")'
SIGNS = dict(re.findall(rf"^{_SIGN}$", GRAMMAR.read_text(encoding="utf-8"), re.MULTILINE))
"""Terminals that have one spelling; they are shown as that."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the page of the language.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is stale")
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    new = page()
    if not parser.parse_args().check:
        PAGE.write_text(new, encoding="utf-8")
        return 0
    lines = difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), str(PAGE), "generated")
    print("".join(lines), end="")
    return int(old != new)


if __name__ == "__main__":
    sys.exit(main())
