r"""Topic names and patterns: what a valid name is, and which patterns match it.

**Names.** A topic name is printable text of 1 to `MAX_TOPIC_BYTES` UTF-8 bytes in Unicode form NFC. `/`, `.`
and `:` separate segments, no segment is empty, and `*` and `#` are kept for patterns. A space may stand
inside a name, not at its ends. The separators are part of the name: `a/b`, `a.b` and `a:b` are three topics.

**Wildcards.** `*` stands for any run of characters within one segment, also none (a segment is never empty,
so a `*` alone takes at least one character). A whole segment `**` or `#` stands for any number of segments,
also none. Every segment carries the separator before it, and that one has to be the same in the topic; the
further segments which `**` takes may use any. A `**` that takes nothing drops its separator.

| pattern         | matches                                 | does not match               |
|-----------------|-----------------------------------------|------------------------------|
| `orders/placed` | `orders/placed`                         | `orders.placed`, `orders`    |
| `orders/*`      | `orders/placed`                         | `orders/eu/placed`, `orders` |
| `user*`         | `user`, `user7`                         | `user/7`                     |
| `a*b/c`         | `ab/c`, `axyb/c`                        | `a/b/c`                      |
| `orders/**`     | `orders`, `orders/eu`, `orders/eu.it:x` | `orders.eu`                  |
| `**/x`          | `x`, `a/x`, `a.b/x`                     | `a.x`, `x/a`                 |
| `a/**/b`        | `a/b`, `a/x/b`, `a/x.y/b`               | `a.x/b`, `a/x.b`             |
| `**`, `#`       | every topic                             |                              |

**Regular expressions.** A compiled expression matches the whole topic, as `fullmatch` does; write `.*` at its
ends to search inside. Only its text and `re.IGNORECASE` are kept, and RE2 does the matching, in linear time.
So the syntax is RE2's: no backreferences, no lookaround, and `\d`, `\w`, `\s` and `\b` mean ASCII.

**Stored text.** A name or wildcard pattern is stored as it is written, a regular expression as `/source/`: no
name begins with a separator, so the two never meet (with `re:` in front it would look like a valid name).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import dropwhile
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from tidings.errors import InvalidPattern, InvalidTopic

DEAD_LETTERS = "dead-letters/"
"""How the names of dead-letter topics begin, unless a topic says otherwise; a name may be longer by this."""

MAX_TOPIC_BYTES = 255
"""Bytes of a name or wildcard pattern: as many as an AMQP routing key holds, the least of all engines."""

MAX_REGEX_BYTES = 1_000
"""Bytes of a regular expression: a few names in one alternation. For more, subscribe to a list of topics."""

MAX_REGEX_MEMORY = 1 << 20
"""Bytes RE2 may use for one expression: with its own default of 8 MiB, `MAX_PATTERNS` could take 8 GiB."""

MAX_PATTERNS = 1_000
"""Topics of one subscription: they are stored and compared as one value, where one wildcard says more."""

V = TypeVar("V", bound=Hashable)
_Path: TypeAlias = tuple[str, ...]

_WILDCARD = re.compile(r"[*#]")
_PLAIN_SEGMENT = r"[!\"$-)+,\-0-9;-~]+"  # ASCII without space, separators and wildcards: the common case
_PLAIN_NAME = re.compile(f"{_PLAIN_SEGMENT}(?:[/.:]{_PLAIN_SEGMENT})*")
_ELEMENT = re.compile(r"[/.:]?[^/.:]+")  # a segment with the separator before it
_EMPTY_SEGMENT = re.compile(r"^[/.:]|[/.:][/.:]|[/.:]$")
_GLOBAL_FLAGS = re.compile(r"(?:\(\?[aimsux]+\))*")
_OPEN_REPEAT = re.compile(r"(?<!\\)(?:\\\\)*\{,\d*\}")


class Regex(Protocol):
    """A compiled regular expression over text: `re.Pattern[str]` or what `re2.compile` returns."""

    @property
    def pattern(self) -> Any:
        """The source text."""

    def fullmatch(self, string: str, /) -> object:
        """A match of the whole string, or None."""


def validate_topic(name: object) -> str:
    """Return `name` when it is a valid topic name.

    Raises `InvalidTopic`, which says which rule of this module the name breaks and what to write instead.
    """
    if not isinstance(name, str):
        raise InvalidTopic(name, f"it is {_kind(name)}; a topic name is a str")
    if len(name) <= MAX_TOPIC_BYTES and _PLAIN_NAME.fullmatch(name):
        return name
    if fault := _wildcard_fault(name) or _name_fault(name):
        raise InvalidTopic(name, fault)
    return name


def is_pattern(text: object) -> bool:
    """Whether `text` is a str with a wildcard, and so may match more than the topic of that name."""
    return isinstance(text, str) and _WILDCARD.search(text) is not None


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _wildcard_fault(name: str) -> str:
    found = _WILDCARD.search(name)
    return f"it contains the wildcard {found[0]!r}; wildcards are for subscribing only" if found else ""


def _name_fault(name: str) -> str:
    """The rule that `name` breaks, wildcards apart, or an empty string."""
    if not name:
        return "it is empty; a topic name has at least one character"
    if hidden := next((character for character in name if not character.isprintable()), ""):
        return f"it contains the unprintable character U+{ord(hidden):04X}; leave it out"
    if name != name.strip():
        return "it begins or ends with a space; strip it"
    import unicodedata  # most names are ASCII and never come here

    if not unicodedata.is_normalized("NFC", name):
        return "it is not in Unicode form NFC; pass it through unicodedata.normalize('NFC', ...)"
    if _EMPTY_SEGMENT.search(name):
        return "it has an empty segment; '/', '.' and ':' stand between segments, never doubled or at an end"
    if (size := len(name.encode())) > MAX_TOPIC_BYTES + len(DEAD_LETTERS) * name.startswith(DEAD_LETTERS):
        return f"it is {size} bytes long; the limit is {MAX_TOPIC_BYTES} bytes of UTF-8, so shorten it"
    return ""


def _pattern_fault(text: str) -> str:
    """The rule that the wildcard pattern `text` breaks, or an empty string."""
    # "_" is one byte as the wildcards are, and no accent composes with it: the other rules see no difference.
    if fault := _name_fault(_WILDCARD.sub("_", text)):
        return fault
    for segment in re.split("[/.:]", text):
        if segment not in ("**", "#") and ("**" in segment or "#" in segment):
            return f"'**' and '#' are whole segments; in {segment!r} write '*', or separators around them"
    return ""


class Pattern(Struct, frozen=True, eq=False):
    """What one subscription asks for: a topic name, a wildcard pattern or a regular expression.

    Equal and hashed by its stored text, which is `str(pattern)`; it can be pickled.
    """

    text: str
    """The stored text, as `from_stored` reads it."""
    accepts: Callable[[str], object]
    """Says whether the whole of a topic matches; `matches` is the one to call."""
    literal: str | None = None
    """The one topic that matches, when the pattern is a plain name."""
    regex: str | None = None
    """The source in RE2 syntax, when the pattern is a regular expression."""
    paths: tuple[_Path, ...] = ()
    """The ways through a `Trie`, when the pattern has wildcards."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a topic name or a wildcard pattern.

        Raises `InvalidTopic` for a name and `InvalidPattern` for a pattern that breaks a rule of this module.
        """
        if not is_pattern(text):
            name = validate_topic(text)
            return cls(name, name.__eq__, literal=name)
        if fault := _pattern_fault(text):
            raise InvalidPattern(text, fault)
        paths = _paths(text)
        root = _Node[None]()
        for path in paths:
            root.add(path, ("", None))
        return cls(text, root.find, paths=paths)

    @classmethod
    def from_regex(cls, compiled: Regex) -> Pattern:
        """Take over a compiled regular expression (`re` or `re2`); of its flags only IGNORECASE counts.

        Raises `InvalidPattern` when RE2 does not know the syntax or would read it differently.
        """
        if not isinstance(compiled.pattern, str):
            raise InvalidPattern(compiled, "it is compiled from bytes; topics are text, compile a str")
        source = _stdlib_source(compiled) if isinstance(compiled, re.Pattern) else _re2_source(compiled)
        return cls._of_source(source)

    @classmethod
    def from_stored(cls, text: str) -> Pattern:
        """Read back what `str(pattern)` gave: `Pattern.from_stored(str(p)) == p`.

        Raises `InvalidTopic` or `InvalidPattern` when the text was not made by this class.
        """
        if len(text) > 1 and text[0] == text[-1] == "/":
            return cls._of_source(text[1:-1])
        return cls.parse(text)

    @classmethod
    def _of_source(cls, source: str) -> Pattern:
        return cls(f"/{source}/", compile_re2(source).fullmatch, regex=source)

    def matches(self, topic: str) -> bool:
        """Whether the whole of `topic`, a valid name, matches; at most len(pattern) * len(topic) steps."""
        return bool(self.accepts(topic))

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Callable[[str], Pattern], tuple[str]]:
        return Pattern.from_stored, (self.text,)


TopicSelector: TypeAlias = str | Pattern | Regex
"""One entry of a subscription: a name, a wildcard pattern, a compiled regex, or a pattern parsed before."""

Topics: TypeAlias = TopicSelector | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]
"""What `subscribe` takes: one `TopicSelector`, or a list, tuple or set of them."""


def parse_topics(topics: Topics) -> tuple[Pattern, ...]:
    """Read what a subscription asks for: 1 to `MAX_PATTERNS` patterns, as ordered (a set: sorted), each once.

    Raises `InvalidTopic` for a bad name, an empty collection or another type; `InvalidPattern` for a bad
    wildcard pattern or regular expression, and for too many of them.
    """
    if not isinstance(topics, (list, tuple, set, frozenset)):
        return (_parse_selector(topics),)
    if not topics:
        raise InvalidTopic(topics, "it is empty; name at least one topic, or '**' for all of them")
    if len(topics) > MAX_PATTERNS:
        reason = f"the limit for one subscription is {MAX_PATTERNS}; use a wildcard, or several subscriptions"
        raise InvalidPattern(f"list of {len(topics)} topics", reason)
    patterns: Iterable[Pattern] = map(_parse_selector, topics)
    if isinstance(topics, (set, frozenset)):
        patterns = sorted(patterns, key=str)  # the order of a set differs between processes
    return tuple(dict.fromkeys(patterns))


def _parse_selector(selector: TopicSelector) -> Pattern:
    if isinstance(selector, Pattern):
        return selector
    if isinstance(selector, str):
        return Pattern.parse(selector)
    if isinstance(selector, re.Pattern) or type(selector).__module__ == "re2":  # known without importing re2
        return Pattern.from_regex(selector)
    ways_out = "give a name, a wildcard pattern, a compiled regex, or a list of these"
    raise InvalidTopic(selector, f"it is {_kind(selector)}; {ways_out}")


def _stdlib_source(compiled: re.Pattern[str]) -> str:
    """The source in RE2 syntax; raises where RE2 would accept it with another meaning."""
    if compiled.flags & re.VERBOSE:
        raise InvalidPattern(compiled.pattern, "RE2 has no re.VERBOSE; write it without spaces and comments")
    if _OPEN_REPEAT.search(compiled.pattern):
        raise InvalidPattern(compiled.pattern, "RE2 reads {,n} as plain characters; write {0,n}")
    # The other flags say nothing new here: a topic is one line, and RE2's classes are ASCII.
    source = _GLOBAL_FLAGS.sub("", compiled.pattern, count=1)
    return f"(?i){source}" if compiled.flags & re.IGNORECASE else source


def _re2_source(compiled: Any) -> str:
    source: str = compiled.pattern
    if compiled.options.literal:
        raise InvalidPattern(source, "it has the option 'literal'; give it as a topic name instead")
    return source if compiled.options.case_sensitive else f"(?i){source}"


def compile_re2(source: str) -> Any:
    import re2  # here, so that only those who use a regular expression pay for the import

    if len(source) > MAX_REGEX_BYTES or len(source.encode(errors="replace")) > MAX_REGEX_BYTES:
        reason = f"a regular expression has at most {MAX_REGEX_BYTES} bytes; give a list of topics instead"
        raise InvalidPattern(f"{source[:50]}...", reason)
    options = re2.Options()
    options.log_errors = False  # RE2 would write to stderr what the exception below says
    options.max_mem = MAX_REGEX_MEMORY
    try:
        return re2.compile(source, options)
    except UnicodeEncodeError:
        raise InvalidPattern(source, "it contains a lone surrogate; leave it out, no topic has one") from None
    except re2.error as error:
        detail = error.args[0].decode(errors="replace")  # RE2 speaks bytes
        advice = "to stay linear in time, it has no backreferences, no lookaround and a bounded size; rewrite it"
        raise InvalidPattern(source, f"RE2 refuses it ({detail}); {advice}") from None


def _paths(text: str) -> tuple[_Path, ...]:
    """The element sequences of a wildcard pattern; any of them may match.

    There are two when the pattern begins with `**` and goes on, for a `**` that takes nothing there drops the
    separator after it: `**/x` is also `x`.
    """
    elements = tuple(_ELEMENT.findall(text.replace("#", "**")))
    if elements[0] != "**":
        return (elements,)
    rest = tuple(dropwhile(lambda element: element.endswith("**"), elements))  # `**/**` is no more than `**`
    return (("**", *rest), (rest[0][1:], *rest[1:])) if rest else (("**",),)


class _Globs(Generic[V]):
    """The children of a node whose elements contain `*`, by what stands before the first and after the last.

    Looking up costs one dictionary access per pair of lengths that occurs, however many patterns there are;
    those which agree on both ends (`*a*` and `*b*`) are tried in turn.
    """

    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, int], dict[tuple[str, str], dict[_Path, _Node[V]]]] = {}

    def add(self, element: str, child: _Node[V]) -> None:
        prefix, *middles, suffix = element.split("*")
        ends = self._shapes.setdefault((len(prefix), len(suffix)), {})
        ends.setdefault((prefix, suffix), {})[tuple(middles)] = child

    def remove(self, element: str) -> None:
        prefix, *middles, suffix = element.split("*")
        shape = (len(prefix), len(suffix))
        ends = self._shapes[shape]
        children = ends[prefix, suffix]
        del children[tuple(middles)]
        if not children:
            del ends[prefix, suffix]
        if not ends:
            del self._shapes[shape]

    def matching(self, element: str) -> Iterator[_Node[V]]:
        for (start, tail), ends in self._shapes.items():
            end = len(element) - tail
            if end < start:
                continue
            for middles, child in ends.get((element[:start], element[end:]), {}).items():
                if _in_order(middles, element, start, end):
                    yield child


def _in_order(middles: _Path, element: str, start: int, end: int) -> bool:
    """Whether `element[start:end]` holds the pieces one after the other; the first place of each is best."""
    for piece in middles:
        start = element.find(piece, start, end)
        if start < 0:
            return False
        start += len(piece)
    return True


class _Node(Generic[V]):
    """A place in the trie: the patterns that end here, and the elements that lead on.

    Matching walks all places at once, so it takes at most (elements of the topic) times (places) steps.
    """

    __slots__ = ("children", "entries", "globs", "spans")

    def __init__(self) -> None:
        self.entries: dict[tuple[str, V], V] = {}
        self.children: dict[str, _Node[V]] = {}  # every child by the text of its element
        self.globs: _Globs[V] | None = None  # those with `*`, once more
        self.spans: dict[str, _Node[V]] = {}  # those that are `**`, by the separator before it

    def add(self, path: _Path, entry: tuple[str, V]) -> None:
        if not path:
            self.entries[entry] = entry[1]
            return
        child = self.children.get(path[0])
        if child is None:
            child = self._grow(path[0])
        child.add(path[1:], entry)

    def _grow(self, element: str) -> _Node[V]:
        child = self.children[element] = _Node()
        if element.endswith("**"):
            self.spans[element[:-2]] = child
        elif "*" in element:
            self.globs = self.globs or _Globs()
            self.globs.add(element, child)
        return child

    def remove(self, path: _Path, entry: tuple[str, V]) -> None:
        """Forget the entry, if it is there, and every place that led only to it."""
        if not path:
            self.entries.pop(entry, None)
            return
        child = self.children.get(path[0])
        if child is not None:
            child.remove(path[1:], entry)
            if not child.entries and not child.children:
                self._cut(path[0])

    def _cut(self, element: str) -> None:
        del self.children[element]
        if element.endswith("**"):
            del self.spans[element[:-2]]
        elif "*" in element and self.globs:
            self.globs.remove(element)

    def find(self, topic: str) -> list[V]:
        """The values of all entries whose path matches, with repetitions."""
        places = {self: False}
        for element in _ELEMENT.findall(topic):
            places = _advance(places, element)
            if not places:
                return []
        return [value for node in places for value in node.entries.values()]


def _advance(places: dict[_Node[V], bool], element: str) -> dict[_Node[V], bool]:
    """The places after one more element of the topic.

    The flag of a place says that a `**` has led there by taking an element, so that it may take any further
    one; a `**` that has taken nothing yet insists on its separator.
    """
    following: dict[_Node[V], bool] = {}
    for node, spanning in places.items():
        if spanning:
            following[node] = True
        if element in node.children:
            following[node.children[element]] = False
        if node.globs:
            for child in node.globs.matching(element):
                following[child] = False
        for separator, child in node.spans.items():
            if element.startswith(separator):
                following[child] = True
    _skip_spans(following)
    return following


def _skip_spans(places: dict[_Node[V], bool]) -> None:
    """Add the places behind every `**`, which may also match nothing."""
    fresh = [node for node in places if node.spans]
    while fresh:
        for child in fresh.pop().spans.values():
            if child not in places:
                places[child] = False
                fresh.append(child)


class Trie(Generic[V]):
    """Values by pattern, found by topic: which subscriptions a message goes to.

    The cost of `match` grows with the topic and with what matches, not with the number of names and wildcard
    patterns; each regular expression is tried. Nothing is cached. Not safe for changes during a `match`.
    """

    def __init__(self) -> None:
        self._exact: dict[str, dict[V, None]] = {}
        self._regexes: dict[Pattern, dict[V, None]] = {}
        self._root: _Node[V] = _Node()

    def add(self, pattern: Pattern, value: V) -> None:
        """Let `value` be found by the topics that match `pattern`. The same pair twice is one."""
        if pattern.literal is not None:
            self._exact.setdefault(pattern.literal, {})[value] = None
        elif pattern.regex is not None:
            self._regexes.setdefault(pattern, {})[value] = None
        for path in pattern.paths:
            self._root.add(path, (pattern.text, value))

    def remove(self, pattern: Pattern, value: V) -> None:
        """Forget the pair and all memory it took; no error when it is not there."""
        if pattern.literal is not None:
            _discard(self._exact, pattern.literal, value)
        elif pattern.regex is not None:
            _discard(self._regexes, pattern, value)
        for path in pattern.paths:
            self._root.remove(path, (pattern.text, value))

    def match(self, topic: str) -> list[V]:
        """The values whose patterns match `topic`, a valid topic name: each once, in no promised order."""
        found = dict(self._exact.get(topic, {}))
        if self._root.children:
            found.update(dict.fromkeys(self._root.find(topic)))
        for pattern, values in self._regexes.items():
            if pattern.matches(topic):
                found.update(values)
        return list(found)


K = TypeVar("K", bound=Hashable)


def _discard(table: dict[K, dict[V, None]], key: K, value: V) -> None:
    values = table.get(key, {})
    values.pop(value, None)
    if not values:
        table.pop(key, None)
