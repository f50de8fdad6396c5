"""Messages, random predicates and random data, and a second, naive way to evaluate a predicate."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import strategies as st

from tidings.model.message import Message, StoredRecord
from tidings.model.predicate import Call, Node, Path, Value

HEADERS = {"x": "1", "content-language": "en", "tidings-routing-key": '{"tags": ["a", "b"], "n": 1}'}


def message(data: Any = None, **options: Any) -> Message:
    """A message with this data as if it had been decoded."""
    record = StoredRecord("id-1", "application/json", b"", "key", dict(HEADERS), {"expires": 2000.5})
    record.value = data
    given = {"topic": "orders", "partition": 2, "offset": 41, "published_at": 1000.25, "attempt": 3, "priority": 8}
    return Message(record, **{**given, **options})


def field(*steps: str | int) -> Path:
    return Path("data", steps)


def call(operation: str, *arguments: Any) -> Call:
    """A call whose operands may be written as plain constants."""
    nodes = (each if isinstance(each, (Value, Path, Call)) else Value(each) for each in arguments)
    return Call(operation, tuple(nodes))


# -- random data: the name of a field says what it mostly holds

TEXTS = ["", "a", "b", "ab", "A", "a%b", "a_b", "é\n", "x\0y", "1970-01-02", "[1, {}]", '\' OR "a" --']
NUMBERS = [0, 1, -1, 2, 3, 0.5, -2.5, 3.0, 2**63 - 1, -(2**63), 2**53 + 1, 1e308, 5e-324]
NAMES = ["n", "m", "t", "s", "l", "o", "w", "odd name", "and"]
KEYS = ["a", "b", "n", "odd name"]

scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
lists = st.lists(scalars, max_size=4)
objects = st.dictionaries(st.sampled_from(KEYS), scalars, max_size=3)
fields = {
    "n": st.sampled_from(NUMBERS),
    "m": st.sampled_from(NUMBERS) | values,
    "t": st.sampled_from(TEXTS),
    "s": st.sampled_from(TEXTS) | values,
    "l": lists | values,
    "o": objects | values,
    "w": values,
    "odd name": values,
    "and": values,
}
records = st.fixed_dictionaries({}, optional=fields)
datas = records | st.fixed_dictionaries(fields) | values

# -- random predicates

PATTERNS = ["", "%", "a", "a%", "%b", "%a%", "a_", "_", "%_b%", r"a\%b", "é%", "%\0%", "a%b", "A%%", "a!%b"]
REGEXES = ["", "a", "^a", "b$", "[0-9]+", "a|b", "(?i)AB", "^$", "x.y"]
COMPARISONS = ["=", "<>", "<", "<=", ">", ">="]
ARITHMETIC = ["+", "-", "*", "/", "%"]

paths = st.one_of(
    st.builds(field, st.sampled_from(NAMES)),
    st.builds(field, st.sampled_from(["l", "o", "w"]), st.sampled_from([*KEYS, 0, 1, -1, 9])),
    st.builds(Path, st.just("data"), st.lists(st.sampled_from([*NAMES, 0, -1]), max_size=3).map(tuple)),
    st.sampled_from([Path("headers", ("x",)), Path("headers", ("none",)), Path("_topic"), Path("_key")]),
    st.sampled_from([Path("_partition"), Path("_attempt"), Path("_routing_key", ("tags",)), Path("_routing_key")]),
)
present = values.filter(lambda value: value is not None).map(Value)
constants = st.none().map(Value) | present
small = st.sampled_from([0, 1, 2, 3, -1, -2, 1.0, 0.5, 16]).map(Value)
times = st.sampled_from([Path("_published_at"), Path("_expires_at")])
moments = st.sampled_from(["1970-01-01T00:16:40.25Z", "1970-01-01", "1970-01-01T00:33:20.5+00:00"]).map(Value)

Nodes: TypeAlias = st.SearchStrategy[Node]


def _some(operations: list[str], *parts: Nodes) -> Nodes:
    return st.builds(call, st.sampled_from(operations), *parts)


def _many(operations: list[str], first: Nodes, rest: Nodes) -> Nodes:
    each = st.lists(rest, min_size=1, max_size=3)
    return st.builds(
        lambda operation, one, others: call(operation, one, *others), st.sampled_from(operations), first, each
    )


number: Nodes = st.deferred(
    lambda: st.one_of(
        st.sampled_from([field("n"), field("m"), Path("_partition")]),
        st.sampled_from(NUMBERS).map(Value),
        paths,
        _some(ARITHMETIC, number, number),
        _some(["negate", "abs", "round", "timestamp"], number),
        _some(["round"], number, small),
        _some(["length"], text | container),
        _some(["timestamp"], text),
        _many(["coalesce"], number, number | constants),
    )
)
text: Nodes = st.deferred(
    lambda: st.one_of(
        st.sampled_from([field("t"), field("s"), Path("_topic"), Path("headers", ("x",))]),
        st.sampled_from(TEXTS).map(Value),
        paths,
        _some(["+", "||"], text, text),
        _some(["lower", "upper", "trim"], text),
        _some(["substr"], text, small),
        _some(["substr"], text, small, small),
        _some(["replace"], text, text, text),
        _many(["coalesce"], text, text | constants),
    )
)
container: Nodes = st.deferred(
    lambda: st.one_of(
        st.sampled_from([field("l"), field("o"), field(), Path("_routing_key"), Path("_routing_key", ("tags",))]),
        (lists | objects).map(Value),
        paths,
        _some(["json"], text),
        _some(["item"], container, st.sampled_from([*KEYS, 0, 1, -1]).map(Value)),
    )
)
anything: Nodes = st.deferred(lambda: paths | number | text | container | condition | present)
condition: Nodes = st.deferred(
    lambda: st.one_of(
        _some(COMPARISONS, number, number) | _some(COMPARISONS, text, text) | _some(["=", "<>"], container, container),
        _some(COMPARISONS, anything, anything) | _some(COMPARISONS, times, moments),
        _some(["and", "or"], condition, condition) | _many(["and", "or"], anything, anything),
        _some(["not"], condition) | _some(["not", "is null"], anything),
        _some(["between"], number, number, number) | _some(["between"], text, text, anything),
        _many(["in"], number, number | constants) | _many(["in"], text, text) | _many(["in"], anything, constants),
        _some(["like", "ilike"], text, st.sampled_from(PATTERNS).map(Value)),
        _some(["like"], text, st.sampled_from(["a!%b", "!_", "a%"]).map(Value), st.just(Value("!"))),
        _some(["match", "imatch"], text, st.sampled_from(REGEXES).map(Value)),
        _some(["starts_with", "ends_with"], text, text),
        _many(["contains", "contains_any"], container, scalars.map(Value) | anything),
        _many(["contains", "contains_any"], text, text),
    )
)
trees: Nodes = st.one_of(condition, condition, anything)
"""Trees of all operations. They are predicates, apart from their size: hypothesis keeps them small."""


def untimed(node: Node) -> bool:
    """Whether a text beside this node is a text, and not read as a time."""
    return not isinstance(node, Path) or node.root not in ("_published_at", "_expires_at")


# -- the other way to evaluate


def kind(value: Any) -> str | None:
    for types, name in ((bool, "bool"), ((int, float), "number"), (str, "text"), (list, "list"), (dict, "object")):
        if isinstance(value, types):
            return name
    return None


def true(value: Any) -> bool | None:
    if kind(value) in ("bool", "number"):
        return bool(value)
    return None if value is None else True


def marked(value: Any) -> Any:
    """The value with its kinds written down, so that Python's == tells 1 from True."""
    if isinstance(value, list):
        return ("list", [marked(each) for each in value])
    if isinstance(value, dict):
        return ("object", {name: marked(each) for name, each in value.items()})
    return (kind(value), value)


def compared(sign: str, left: Any, right: Any) -> bool | None:
    if left is None or kind(left) != kind(right):
        return None
    if sign in ("=", "<>"):
        return (marked(left) == marked(right)) is (sign == "=")
    if kind(left) not in ("number", "text"):
        return None
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign])


def conjunction(parts: list[bool | None]) -> bool | None:
    return False if any(part is False for part in parts) else None if None in parts else True


def negation(part: bool | None) -> bool | None:
    return None if part is None else not part


def disjunction(parts: list[bool | None]) -> bool | None:
    return negation(conjunction([negation(part) for part in parts]))


def arithmetic(sign: str, left: Any, right: Any) -> Any:
    if kind(left) == kind(right) == "text" and sign in ("+", "||"):
        return left + right
    if kind(left) != "number" or kind(right) != "number" or sign == "||" or (sign in "/%" and right == 0):
        return None
    if sign == "%":
        whole = isinstance(left, int) and isinstance(right, int)
        found: Any = math.copysign(1, left) * (abs(left) % abs(right)) if not whole else abs(left) % abs(right)
        found = (-found if left < 0 else found) if whole else math.fmod(left, right)
    else:
        try:
            found = {"+": lambda: left + right, "-": lambda: left - right, "*": lambda: left * right}.get(
                sign, lambda: left / right
            )()
        except OverflowError:
            return None
    return limited(found)


def limited(number: Any) -> Any:
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        number = float(number)
    return number if isinstance(number, int) or math.isfinite(number) else None


def translated(pattern: str, escape: str) -> str:
    """A LIKE pattern as a regular expression of Python."""
    found, escaped = "", False
    for letter in pattern:
        if letter == escape and not escaped:
            escaped = True
            continue
        found += re.escape(letter) if escaped or letter not in "%_" else {"%": ".*", "_": "."}[letter]
        escaped = False
    return found


def like(text: Any, pattern: str, escape: str = "\\", flags: int = 0) -> bool | None:
    if kind(text) != "text":
        return None
    return re.fullmatch(translated(pattern, escape), text, re.DOTALL | flags) is not None


def search(text: Any, regex: str, flags: int = 0) -> bool | None:
    return None if kind(text) != "text" else re.search(regex.replace("$", r"\Z"), text, flags | re.ASCII) is not None


def has(container: Any, value: Any) -> bool | None:
    if kind(container) == "list":
        return any(marked(each) == marked(value) for each in container)
    return value in container if kind(value) == "text" and kind(container) in ("text", "object") else None


def whole(number: Any) -> bool:
    return kind(number) == "number" and number == int(number)


def part_of(text: Any, start: Any, length: Any = 10**9) -> Any:
    if kind(text) != "text" or not whole(start) or not whole(length) or start == 0 or length < 0:
        return None
    begin = int(start) - 1 if start > 0 else max(len(text) + int(start), 0)
    return "".join(letter for place, letter in enumerate(text) if begin <= place < begin + int(length))


def rounded(number: Any, digits: Any = 0) -> Any:
    if kind(number) != "number" or not whole(digits) or not 0 <= digits <= 15:
        return None
    if isinstance(number, int) or abs(number) >= 2**53:
        return number
    size = math.floor(abs(number) * 10 ** int(digits) + 0.5) / 10 ** int(digits)
    return size if number >= 0 else -size


def read_json(text: Any) -> Any:
    try:
        return json.loads(text) if kind(text) == "text" else None
    except ValueError:
        return None


def texts(compute: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *given: compute(*given) if all(kind(each) == "text" for each in given) else None


def at(container: Any, key: Any) -> Any:
    fits = {"list": "number", "object": "text"}.get(kind(container) or "") == kind(key)
    try:
        return container[key] if fits else None
    except LookupError:
        return None


def moment(value: Any) -> Any:
    """Only what the texts above need."""
    return 86400.0 if value == "1970-01-02" else value if kind(value) == "number" else None


LAZY: dict[str, Callable[..., Any]] = {
    "and": lambda *parts: conjunction([true(part) for part in parts]),
    "or": lambda *parts: disjunction([true(part) for part in parts]),
    "in": lambda item, *options: disjunction([compared("=", item, option) for option in options]),
    "between": lambda item, low, high: conjunction([compared(">=", item, low), compared("<=", item, high)]),
    "is null": lambda value: value is None,
    "coalesce": lambda *parts: next((part for part in parts if part is not None), None),
}
"""The operations that may have a value where an operand is NULL."""

STRICT: dict[str, Callable[..., Any]] = {
    "not": lambda value: negation(true(value)),
    **{sign: (lambda left, right, sign=sign: compared(sign, left, right)) for sign in COMPARISONS},
    **{
        sign: (lambda left, right, sign=sign: arithmetic(sign, left, right)) for sign in ("+", "-", "*", "/", "%", "||")
    },
    "like": like,
    "ilike": lambda text, pattern: like(text, pattern, flags=re.IGNORECASE),
    "match": search,
    "imatch": lambda text, regex: search(text, regex, re.IGNORECASE),
    "negate": lambda number: limited(-number) if kind(number) == "number" else None,
    "item": at,
    "lower": texts(str.lower),
    "upper": texts(str.upper),
    "trim": texts(str.strip),
    "length": lambda value: len(value) if kind(value) in ("text", "list", "object") else None,
    "substr": part_of,
    "replace": texts(lambda text, old, new: text.replace(old, new) if old else text),
    "starts_with": texts(str.startswith),
    "ends_with": texts(str.endswith),
    "contains": lambda container, *wanted: conjunction([has(container, each) for each in wanted]),
    "contains_any": lambda container, *wanted: disjunction([has(container, each) for each in wanted]),
    "abs": lambda number: limited(abs(number)) if kind(number) == "number" else None,
    "round": rounded,
    "timestamp": moment,
    "json": read_json,
}
"""The operations that are NULL where an operand is NULL."""

TIMES = {"1970-01-01T00:16:40.25Z": 1000.25, "1970-01-01": 0.0, "1970-01-01T00:33:20.5+00:00": 2000.5}


def evaluate(node: Node, given: Message) -> Any:
    """Return the value of a node, slowly."""
    if isinstance(node, Value):
        return node.value
    if isinstance(node, Path):
        return reached(node, given)
    parts = [evaluate(part, given) for part in node.arguments]
    if not all(map(untimed, node.arguments)):
        parts = [TIMES.get(part, part) if isinstance(part, str) else part for part in parts]
    if node.operation in LAZY:
        return LAZY[node.operation](*parts)
    return None if any(part is None for part in parts) else STRICT[node.operation](*parts)


def reached(path: Path, given: Message) -> Any:
    if path.root == "headers":
        return HEADERS.get(str(path.steps[0]))
    found = given.data if path.root == "data" else getattr(given, path.root[1:])
    for step in path.steps:
        found = at(found, step)
    return found
