"""From a Python function to a predicate: it is called once, with an expression that writes down what is done to it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, NoReturn

from tidings.errors import InvalidFilter, UnencodableData
from tidings.model.codec import decode, encode
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.predicate import Predicate
from tidings.model.predicate.tree import DATA, HEADERS, Call, Node, Path, Value

_LOGIC = (
    "and, or, not, if, in and chained comparisons cannot be recorded; write & | ~, x.contains(y) and (1 < x) & (x < 5)"
)
_PLAIN = "`is`, `in`, and, or, not give a plain value; write == None, .contains(), & | ~"

_ELSEWHERE = {
    "get": '["name"], with .default(value) for what is missing',
    "strip": ".trim()",
    "partition_key": ".key",
    "message_id": ".id",
}
"""What people call that has another name here."""


class Expression:
    """Stands for a value of a message in a filter function: `m["total"] > 100` is another expression.

    Combine with `&`, `|` and `~`, each side in parentheses; compare with `== != < <= > >=`; compute with `+ - * / %`;
    go into objects and lists with `[...]`. `x == None` asks whether something is missing.
    """

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    # -- going into values

    def __getitem__(self, key: Any) -> Expression:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise _refusal(f"[{key!r}] is no name or index; slices and computed keys cannot be recorded")
        node = self._node
        if isinstance(node, Path):
            return Expression(Path(node.root, (*node.steps, key)))
        return Expression(Call("item", (node, Value(key))))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = [each for each in dir(type(self)) if not each.startswith("_")]
        near = difflib.get_close_matches(name, known, 1)
        way = f"did you mean .{near[0]}?" if near else f"a field of the data is [{name!r}]"
        if self._node == Path(HEADERS):
            way = f"a header is [{name!r}]"
        if name in _ELSEWHERE:
            way = f"write {_ELSEWHERE[name]}"
        raise _refusal(f"there is no .{name}; {way}")

    # -- logic

    def __and__(self, other: Any) -> Expression:
        return _joined("and", self, other)

    def __rand__(self, other: Any) -> Expression:
        return _joined("and", other, self)

    def __or__(self, other: Any) -> Expression:
        return _joined("or", self, other)

    def __ror__(self, other: Any) -> Expression:
        return _joined("or", other, self)

    def __invert__(self) -> Expression:
        return _call("not", self)

    # -- comparisons

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self.is_null() if other is None else _call("=", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return self.is_not_null() if other is None else _call("<>", self, other)

    def __lt__(self, other: Any) -> Expression:
        return _call("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return _call("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return _call(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return _call(">=", self, other)

    def is_null(self) -> Expression:
        """Whether it is missing, or null."""
        return _call("is null", self)

    def is_not_null(self) -> Expression:
        """Whether it is there."""
        return ~self.is_null()

    def is_in(self, options: Iterable[Any]) -> Expression:
        """Whether it is one of these values."""
        if isinstance(options, (str, bytes, Expression)) or not isinstance(options, Iterable):
            raise _refusal("is_in() takes a list of values; for a list in the message write m['list'].contains(x)")
        found = tuple(options)
        if not found:
            raise _refusal("is_in() takes at least one value: nothing is in an empty list")
        return _call("in", self, *found)

    def between(self, low: Any, high: Any) -> Expression:
        """Whether it is from `low` to `high`, both included."""
        return _call("between", self, low, high)

    def match(self, regex: str, ignore_case: bool = False) -> Expression:
        """Whether a regular expression (RE2 syntax) is found in the text."""
        return _call("imatch" if ignore_case else "match", self, regex)

    def like(self, pattern: str) -> Expression:
        """Whether the text fits a pattern: `%` is any text, `_` any character."""
        return _call("like", self, pattern)

    def ilike(self, pattern: str) -> Expression:
        """The same, in upper and lower case."""
        return _call("ilike", self, pattern)

    def contains(self, *values: Any) -> Expression:
        """Whether a list has all of the values, a text all of the parts, an object all of the keys."""
        return _call("contains", self, *values)

    def contains_any(self, *values: Any) -> Expression:
        """The same for at least one of them."""
        return _call("contains_any", self, *values)

    def startswith(self, start: Any) -> Expression:
        """Whether the text begins so."""
        return _call("starts_with", self, start)

    def endswith(self, end: Any) -> Expression:
        """Whether the text ends so."""
        return _call("ends_with", self, end)

    # -- computing

    def lower(self) -> Expression:
        """The text in lower case."""
        return _call("lower", self)

    def upper(self) -> Expression:
        """The text in upper case."""
        return _call("upper", self)

    def trim(self) -> Expression:
        """The text without white space at its ends."""
        return _call("trim", self)

    def length(self) -> Expression:
        """How many characters, elements or fields it has."""
        return _call("length", self)

    def substr(self, start: Any, length: Any = None) -> Expression:
        """A part of the text; `start` counts from 1."""
        return _call("substr", self, start) if length is None else _call("substr", self, start, length)

    def replace(self, old: Any, new: Any) -> Expression:
        """The text with all of `old` replaced."""
        return _call("replace", self, old, new)

    def default(self, value: Any) -> Expression:
        """It, or `value` when it is missing."""
        return _call("coalesce", self, value)

    def abs(self) -> Expression:
        """The number without its sign."""
        return _call("abs", self)

    def round(self, digits: int = 0) -> Expression:
        """The number rounded, halves away from zero."""
        return _call("round", self, digits) if digits else _call("round", self)

    def __add__(self, other: Any) -> Expression:
        return _call("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _call("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _call("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _call("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _call("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _call("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _call("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _call("/", other, self)

    def __mod__(self, other: Any) -> Expression:
        return _call("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return _call("%", other, self)

    def __neg__(self) -> Expression:
        return _call("negate", self)

    def __abs__(self) -> Expression:
        return self.abs()

    def __round__(self, digits: int | None = None) -> Expression:
        return self.round(digits or 0)

    # -- what cannot be recorded

    def __bool__(self) -> NoReturn:
        raise _refusal(_LOGIC)

    def __contains__(self, item: object) -> NoReturn:
        raise _refusal(_LOGIC)

    def __iter__(self) -> NoReturn:
        raise _refusal("a loop cannot be recorded; write .contains(), .contains_any() or an index such as [0]")

    def __len__(self) -> NoReturn:
        raise _refusal("len() cannot be recorded; write .length()")

    def __hash__(self) -> NoReturn:
        raise _refusal("a set or dict cannot be asked; write .is_in([...])")

    def __call__(self, *arguments: Any, **options: Any) -> NoReturn:
        raise _refusal("a value of the message cannot be called")

    def __str__(self) -> NoReturn:
        raise _refusal("str(), print() and f-strings cannot be recorded; join texts with +")

    def __format__(self, form: str) -> NoReturn:
        raise _refusal("str(), print() and f-strings cannot be recorded; join texts with +")

    def _no_number(self, *arguments: Any) -> NoReturn:
        raise _refusal("int(), float(), math and range() cannot be recorded; compute with + - * / %, .round(), .abs()")

    __int__ = __float__ = __complex__ = __index__ = __trunc__ = __floor__ = __ceil__ = _no_number

    def __setitem__(self, key: object, value: object) -> NoReturn:
        raise _refusal("a filter changes nothing")

    def __setattr__(self, name: str, value: object) -> None:
        if name != "_node":
            raise _refusal("a filter changes nothing")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<Expression {self._node}>"


class MessageExpression(Expression):
    """Stands for the message: `m["total"]` is a field of its data, the attributes are those of `Message`."""

    __slots__ = ()

    @property
    def data(self) -> Expression:
        """The data of the message."""
        return Expression(Path(DATA))

    @property
    def headers(self) -> Expression:
        """The headers: `m.headers["name"]`."""
        return Expression(Path(HEADERS))


def _field(root: str) -> property:
    return property(lambda self: Expression(Path(root)), doc=FIELDS[root].description)


for _root in FIELDS:
    setattr(MessageExpression, _root.removeprefix("_"), _field(_root))


def record(function: Callable[[Any], Any], root: str | None = None) -> Predicate:
    """Return the predicate that a function of one message describes: `record(lambda m: m["total"] > 100)`.

    With `root` the function gets that part of the message, such as "_routing_key". Raises `InvalidFilter`, which says
    what to write instead of what cannot be recorded.
    """
    _check_function(function)
    try:
        result = function(MessageExpression(Path(DATA)) if root is None else Expression(Path(root)))
    except InvalidFilter as error:
        raise InvalidFilter(function, error.reason) from None
    except Exception as error:
        way = "it is called once, with an expression in place of a message; do only what an expression can"
        raise InvalidFilter(function, f"it raised {type(error).__name__}: {error}; {way}") from error
    if not isinstance(result, Expression):
        raise InvalidFilter(function, f"it returned {result!r}, which is no expression of the message; {_PLAIN}")
    try:
        return Predicate(result._node)
    except InvalidFilter as error:
        raise InvalidFilter(function, error.reason) from error


def _check_function(function: Callable[[Any], Any]) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidFilter(function, "it is asynchronous; give a plain function, which is called once")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None)
    except TypeError:
        raise InvalidFilter(function, "give a function of one parameter, the message") from None


def _call(operation: str, *parts: Any) -> Expression:
    return Expression(Call(operation, tuple(map(_node, parts))))


def _joined(operation: str, left: Any, right: Any) -> Expression:
    """AND and OR lie flat: `a & b & c` is one of three parts."""
    parts: list[Node] = []
    for side in (left, right):
        if not isinstance(side, Expression):  # `(m["a"] == 1) & (m["b"] is None)` would never match
            raise _refusal(f"one side of & or | is {side!r}, which is no expression of the message; {_PLAIN}")
        node = side._node
        parts.extend(node.arguments if isinstance(node, Call) and node.operation == operation else (node,))
    return Expression(Call(operation, tuple(parts)))


def _node(value: Any) -> Node:
    if isinstance(value, Expression):
        return value._node
    if isinstance(value, datetime):
        return Value((value if value.tzinfo is not None else value.astimezone(UTC)).timestamp())
    try:
        return Value(decode(*encode(value)))  # as it arrives when it is published, and nobody else's
    except UnencodableData:
        way = "give a bool, a finite number, a text, list, dict or datetime"
        raise _refusal(f"a constant of type {type(value).__name__} is no JSON; {way}") from None


def _refusal(reason: str) -> InvalidFilter:
    return InvalidFilter("function", reason)
