"""Topic names, wildcard and regex patterns, and the trie, against rules written a second time here."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.topic_cases import INVALID_NAMES, MATCHES, VALID_NAMES
from tidings.errors import InvalidPattern, InvalidTopic, UsageError
from tidings.model import topics
from tidings.model.topics import (
    MAX_PATTERNS,
    MAX_REGEX_BYTES,
    MAX_TOPIC_BYTES,
    Pattern,
    Trie,
    is_pattern,
    parse_topics,
    validate_topic,
)


class TestNames:
    @pytest.mark.parametrize("name", VALID_NAMES)
    def test_valid(self, name: str) -> None:
        assert validate_topic(name) is name

    @pytest.mark.parametrize(("name", "clue"), INVALID_NAMES)
    def test_invalid(self, name: object, clue: str) -> None:
        with pytest.raises(InvalidTopic) as caught:
            validate_topic(name)
        assert clue in caught.value.reason
        assert ";" in caught.value.reason  # the second half is the way out
        assert caught.value.topic is name

    @settings(deadline=None)
    @given(st.text("ab*#/.: \n~é\u0301\ud800", max_size=12) | st.text(max_size=300))
    def test_the_short_cut_accepts_nothing_that_the_rules_refuse(self, name: str) -> None:
        spelled_out = (
            0 < len(name.encode(errors="replace")) <= MAX_TOPIC_BYTES
            and all(re.split("[/.:]", name))
            and not set("*#") & set(name)
            and name.isprintable()
            and name == name.strip(" ")
            and name == unicodedata.normalize("NFC", name)
        )
        try:
            accepted = validate_topic(name) == name
        except InvalidTopic:
            accepted = False
        assert accepted == spelled_out

    def test_is_pattern(self) -> None:
        assert [text for text in ("a", "a/*", "a*b", "#", "a/**", "", None) if is_pattern(text)] == [
            "a/*",
            "a*b",
            "#",
            "a/**",
        ]


class TestWildcards:
    @pytest.mark.parametrize(("pattern", "topic", "expected"), MATCHES)
    def test_table(self, pattern: str, topic: str, expected: bool) -> None:
        assert Pattern.parse(pattern).matches(topic) is expected

    @pytest.mark.parametrize("row", [row for row in (topics.__doc__ or "").splitlines() if row.startswith("| `")])
    def test_the_table_of_the_module(self, row: str) -> None:
        patterns, matching, others = (re.findall("`([^`]+)`", cell) for cell in row.strip("|").split("|"))
        for pattern in map(Pattern.parse, patterns):
            assert [topic for topic in [*matching, *others, "any"] if pattern.matches(topic)] == [
                *matching,
                *(["any"] if "**" in patterns else []),
            ]

    @pytest.mark.parametrize(
        ("text", "clue"),
        [
            ("a**", "whole segments"),
            ("a/**b", "whole segments"),
            ("***", "whole segments"),
            ("c#", "whole segments"),
            ("a/##", "whole segments"),
            ("*#", "whole segments"),
            ("*/", "empty segment"),
            ("/*", "empty segment"),
            ("a//*", "empty segment"),
            ("* ", "space"),
            ("*\n", "U+000A"),
            ("*\ud800", "U+D800"),
            ("cafe\u0301/*", "NFC"),
            ("*" + "x" * MAX_TOPIC_BYTES, "256 bytes"),
        ],
    )
    def test_invalid(self, text: str, clue: str) -> None:
        with pytest.raises(InvalidPattern) as caught:
            Pattern.parse(text)
        assert clue in caught.value.reason
        assert caught.value.pattern == text

    def test_an_invalid_name_is_an_invalid_topic(self) -> None:
        with pytest.raises(InvalidTopic):
            Pattern.parse("a//b")

    def test_kinds(self) -> None:
        name, wildcard, regex = (
            Pattern.parse("a/b"),
            Pattern.parse("a/*"),
            Pattern.from_regex(re.compile("a")),
        )
        assert (name.literal, name.regex) == ("a/b", None)
        assert (wildcard.literal, wildcard.regex) == (None, None)
        assert (regex.literal, regex.regex) == (None, "a")


class TestRegularExpressions:
    @pytest.mark.parametrize(
        ("compiled", "topic", "expected"),
        [
            (re.compile(r"orders"), "orders", True),
            (re.compile(r"orders"), "orders/placed", False),
            (re.compile(r"ca"), "scare", False),
            (re.compile(r".*ca.*"), "scare", True),
            (re.compile(r".*"), "a/b.c:d", True),
            (re.compile(r"user:\d+"), "user:17", True),
            (re.compile(r"a|ab"), "ab", True),
            (re.compile(r"größe/.", re.IGNORECASE), "GRÖSSE/X", False),
            (re.compile(r"größe/.", re.IGNORECASE), "GRÖßE/日", True),
            (re.compile(r"(?i)ab"), "AB", True),
            (re.compile(r"(?s)(?a)ab"), "AB", False),
            (re.compile(r"a/b", re.DOTALL | re.MULTILINE | re.ASCII), "a/b", True),
            (re.compile(r"a{0,2}\{,3}"), "aa{,3}", True),
            (re2.compile(r"(?i)a\pL"), "Aé", True),
        ],
    )
    def test_matches_the_whole_topic(self, compiled: Any, topic: str, expected: bool) -> None:
        assert Pattern.from_regex(compiled).matches(topic) is expected

    def test_case_option_of_re2(self) -> None:
        options = re2.Options()
        options.case_sensitive = False
        pattern = Pattern.from_regex(re2.compile("ab", options))
        assert pattern.matches("AB")
        assert str(pattern) == "/(?i)ab/"

    @pytest.mark.parametrize(
        ("source", "flags", "clue"),
        [
            (r"(a)\1", 0, "no backreferences"),
            (r"(?=a)a", 0, "no lookaround"),
            (r"(?<!a)b", 0, "no lookaround"),
            (r"a\Z", 0, r"\Z"),
            (r"(?>a)", 0, "rewrite it"),
            (r"a{1001}", 0, "repetition size"),
            (r"(?:a{1000}){1000}", 0, "RE2 refuses"),
            (r"(?i)[^日本語中文字ж-щé-ñα-ω]{1000}", 0, "too large"),
            (r"a b", re.VERBOSE, "re.VERBOSE"),
            (r"(?x)a b", 0, "re.VERBOSE"),
            (r"a{,3}", 0, "{0,n}"),
            (r"\\{,3}", 0, "{0,n}"),
            ("\ud800", 0, "surrogate"),
            ("x" * (MAX_REGEX_BYTES + 1), 0, "at most 1000 bytes"),
            ("é" * (MAX_REGEX_BYTES // 2 + 1), 0, "at most 1000 bytes"),
        ],
    )
    def test_refused_with_the_reason(
        self, source: str, flags: int, clue: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(InvalidPattern) as caught:
            Pattern.from_regex(re.compile(source, flags))
        assert clue in caught.value.reason
        assert capfd.readouterr().err == ""  # RE2 would log there

    def test_bytes_and_literals_are_refused(self) -> None:
        options = re2.Options()
        options.literal = True
        with pytest.raises(InvalidPattern, match="bytes"):
            parse_topics(re.compile(b"a"))
        with pytest.raises(InvalidPattern, match="literal"):
            Pattern.from_regex(re2.compile("a.b", options))

    def test_re2_is_imported_only_for_a_regular_expression(self) -> None:
        program = (
            "import re, sys; from tidings.model.topics import *;"
            "parse_topics(['a', 'b/*']); assert 're2' not in sys.modules;"
            "parse_topics(re.compile('a')); assert 're2' in sys.modules"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


PATTERN_EXAMPLES = [
    Pattern.parse("a/b"),
    Pattern.parse("re:a"),
    Pattern.parse("user*/#"),
    Pattern.from_regex(re.compile("a/b/")),
    Pattern.from_regex(re.compile("(?i)a.*", re.IGNORECASE)),
    Pattern.from_regex(re.compile("")),
]


class TestStoredText:
    @pytest.mark.parametrize("pattern", PATTERN_EXAMPLES, ids=str)
    def test_round_trip(self, pattern: Pattern) -> None:
        for again in (
            Pattern.from_stored(str(pattern)),
            pickle.loads(pickle.dumps(pattern)),
            copy.deepcopy(pattern),
        ):
            assert again == pattern
            assert hash(again) == hash(pattern)
            assert (again.literal, again.regex, again.paths) == (
                pattern.literal,
                pattern.regex,
                pattern.paths,
            )
            assert [t for t in ("a/b", "re:a", "user7/x", "A/b", "a/b/") if again.matches(t)] == [
                t for t in ("a/b", "re:a", "user7/x", "A/b", "a/b/") if pattern.matches(t)
            ]

    def test_texts(self) -> None:
        assert list(map(str, PATTERN_EXAMPLES)) == ["a/b", "re:a", "user*/#", "/a/b//", "/(?i)a.*/", "//"]

    def test_equal_by_text(self) -> None:
        assert Pattern.parse("a/**") != Pattern.parse("a/#")
        assert Pattern.parse("a.b") != Pattern.from_regex(re.compile("a.b"))
        assert len({Pattern.parse("a/*"), Pattern.parse("a/*"), Pattern.parse("a/b")}) == 2

    @pytest.mark.parametrize("text", ["", "/", "/a", "/(/", "a//*"])
    def test_damaged_text_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError):
            Pattern.from_stored(text)

    def test_frozen(self) -> None:
        with pytest.raises(AttributeError):
            Pattern.parse("a").text = "b"  # type: ignore[misc]  # the mistake under test


class TestParseTopics:
    def test_one(self) -> None:
        assert parse_topics("a/b") == (Pattern.parse("a/b"),)
        assert parse_topics(re.compile("a")) == (Pattern.from_regex(re.compile("a")),)
        assert parse_topics(re2.compile("a")) == (Pattern.from_regex(re.compile("a")),)
        assert parse_topics(Pattern.parse("a")) == (Pattern.parse("a"),)

    def test_several_in_order_and_once(self) -> None:
        assert list(map(str, parse_topics(["b", "a/*", re.compile("c"), "b"]))) == ["b", "a/*", "/c/"]
        assert list(map(str, parse_topics(("b", "a")))) == ["b", "a"]

    @pytest.mark.parametrize("kind", [set, frozenset])
    def test_a_set_is_sorted(self, kind: Callable[[list[str]], Any]) -> None:
        assert list(map(str, parse_topics(kind(["c", "a", "b/*"])))) == ["a", "b/*", "c"]

    @pytest.mark.parametrize("nothing", [[], (), set(), None, 7, b"a", {"a": 1}, [None], [["a"]], ["a", ""]])
    def test_not_topics(self, nothing: Any) -> None:
        with pytest.raises(InvalidTopic) as caught:
            parse_topics(nothing)
        assert ";" in caught.value.reason

    def test_bounded(self) -> None:
        assert len(parse_topics([f"t{i}" for i in range(MAX_PATTERNS)])) == MAX_PATTERNS
        with pytest.raises(InvalidPattern, match=r"1001 topics.*limit.*1000"):
            parse_topics([f"t{i}" for i in range(MAX_PATTERNS + 1)])


# --- against rules written a second time ---


def splits(text: str) -> list[tuple[str, str]]:
    """(separator before, segment) of a name or pattern."""
    parts = re.split("([/.:])", "\0" + text)
    return [("", parts[0][1:]), *zip(parts[1::2], parts[2::2], strict=True)]


def glob(pattern: str, text: str) -> bool:
    if not pattern or not text:
        return set(pattern) <= {"*"} and not text
    if pattern[0] == "*":
        return glob(pattern[1:], text) or glob(pattern, text[1:])
    return pattern[0] == text[0] and glob(pattern[1:], text[1:])


def brute_force(pattern: list[tuple[str, str]], topic: list[tuple[str, str]]) -> bool:
    """Try every number of segments for every `**`."""
    if not pattern:
        return not topic
    (separator, segment), rest = pattern[0], pattern[1:]
    if segment not in ("**", "#"):
        return bool(topic) and topic[0][0] == separator and glob(segment, topic[0][1]) and brute_force(rest, topic[1:])
    if any(topic[0][0] == separator and brute_force(rest, topic[n:]) for n in range(1, len(topic) + 1)):
        return True
    if rest and not separator:  # at the start: the separator after it goes with it
        rest = [("", rest[0][1]), *rest[1:]]
    return brute_force(rest, topic)


def joined(segment: st.SearchStrategy[str], most: int) -> st.SearchStrategy[str]:
    further = st.lists(st.tuples(st.sampled_from("//.:"), segment), max_size=most - 1)
    return st.tuples(segment, further).map(lambda parts: parts[0] + "".join(map("".join, parts[1])))


TOPICS = joined(st.text("ab", min_size=1, max_size=4), most=6)
PATTERNS = joined(
    st.sampled_from(["**", "#", "*", "a*", "*b", "a*b", "*a*", "*a*b*", "a*b*a"])
    | st.text("ab", min_size=1, max_size=2),
    most=5,
)
REGEXES = st.sampled_from(["a.*", ".*/b", "[ab]+", "(?i)A|B/.*"]).map(lambda source: Pattern.from_stored(f"/{source}/"))
ANY_PATTERNS = PATTERNS.map(Pattern.parse) | REGEXES


class TestAgainstTheRules:
    @settings(max_examples=500, deadline=None)
    @given(PATTERNS, st.lists(TOPICS, min_size=1, max_size=8))
    def test_matches_like_brute_force(self, pattern: str, names: list[str]) -> None:
        parsed = Pattern.parse(pattern)
        for name in names:
            assert parsed.matches(name) == brute_force(splits(pattern), splits(name)), name

    @settings(deadline=None)
    @given(ANY_PATTERNS)
    def test_stored_text_round_trip(self, pattern: Pattern) -> None:
        assert Pattern.from_stored(str(pattern)) == pattern

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(st.tuples(ANY_PATTERNS, st.integers(0, 3)), max_size=12),
        st.lists(st.integers(0, 11), max_size=12),
        st.lists(TOPICS, min_size=1, max_size=5),
    )
    def test_trie_is_a_linear_scan(
        self, added: list[tuple[Pattern, int]], removed: list[int], names: list[str]
    ) -> None:
        trie, pairs = Trie[int](), dict.fromkeys(added)
        for pattern, value in added:
            trie.add(pattern, value)
        for pattern, value in [added[index] for index in removed if index < len(added)]:
            trie.remove(pattern, value)
            pairs.pop((pattern, value), None)
        for name in names:
            found = trie.match(name)
            assert sorted(found) == sorted({value for pattern, value in pairs if pattern.matches(name)})

    @settings(deadline=None)
    @given(st.lists(st.tuples(ANY_PATTERNS, st.integers(0, 3)), max_size=12))
    def test_removing_everything_frees_everything(self, added: list[tuple[Pattern, int]]) -> None:
        trie = Trie[int]()
        for pattern, value in added:
            trie.add(pattern, value)
        for pattern, value in added:
            trie.remove(pattern, value)
        root = trie._root
        assert not trie._exact
        assert not trie._regexes
        assert not root.children
        assert not root.spans
        assert root.globs is None or not root.globs._shapes


class TestTrie:
    def test_each_value_once(self) -> None:
        trie = Trie[str]()
        for pattern in ("a/b", "a/*", "*/b", "**", "#", "**/b", "a/b"):
            trie.add(Pattern.parse(pattern), "v")
        trie.add(Pattern.from_regex(re.compile(".*")), "v")
        assert trie.match("a/b") == ["v"]

    def test_patterns_that_mean_the_same_are_removed_one_by_one(self) -> None:
        trie = Trie[str]()
        for text in ("a/#", "a/**"):
            trie.add(Pattern.parse(text), "v")
        trie.remove(Pattern.parse("a/#"), "v")
        assert trie.match("a/x") == ["v"]
        trie.remove(Pattern.parse("a/**"), "v")
        assert trie.match("a/x") == []

    def test_removing_what_is_not_there_changes_nothing(self) -> None:
        trie = Trie[str]()
        trie.add(Pattern.parse("a/*"), "v")
        for pattern in (Pattern.parse("a/*"), Pattern.parse("b/*"), Pattern.parse("a"), PATTERN_EXAMPLES[3]):
            trie.remove(pattern, "other")
        assert trie.match("a/x") == ["v"]
        assert not trie._exact
        assert not trie._regexes


# --- cost: steps are counted, nothing is timed ---


def steps(call: Callable[[], object]) -> int:
    """How many lines of the module under test the call executes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        nonlocal count
        if frame.f_code.co_filename != topics.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def trie_of(shape: str, size: int) -> Trie[int]:
    trie = Trie[int]()
    for number in range(size):
        trie.add(Pattern.parse(shape.format(number)), number)
    return trie


def hard_cases(size: int) -> Iterator[tuple[str, str]]:
    yield "*a" * size + "*b", "a" * 2 * size + "c"
    yield "*a" * size + "*b", "a" * (size - 1) + "xxb"
    yield "*ab" * size + "*b", "a" * 3 * size + "b"
    yield "/".join(["**", "a"] * size) + "/b", "/".join(["a"] * 2 * size)
    yield "/".join(["a", "**"] * size) + "/b", "/".join(["a"] * 2 * size)
    yield "/".join(["**", "*a*"] * size) + ".b", "/".join(["a"] * 2 * size) + "/b"
    yield "a/" + "/".join(["**"] * size) + "/b", "/".join(["a"] * 2 * size)


class TestCost:
    @pytest.mark.parametrize(
        ("shape", "topic"),
        [
            ("topic{}/*", "topic7/x"),
            ("user{}*", "user7"),
            ("*-{}", "x-7"),
            ("sensor-{}-*/x", "sensor-7-a/x"),
            ("**/leaf{}", "a/b/leaf7"),
            ("a/**/x{}", "a/b/c/x7"),
            ("*/k{}/**", "z/k7/q.r"),
        ],
    )
    def test_ten_thousand_patterns_cost_no_more_than_twice_ten(self, shape: str, topic: str) -> None:
        few, many = trie_of(shape, 10), trie_of(shape, 10_000)
        assert few.match(topic) == many.match(topic) == [7]
        assert steps(lambda: many.match(topic)) <= 2 * steps(lambda: few.match(topic))

    @pytest.mark.parametrize("case", range(7))
    def test_worst_cases_are_at_most_quadratic(self, case: int) -> None:
        def cost(size: int) -> int:
            text, topic = list(hard_cases(size))[case]
            pattern = Pattern.parse(text)
            assert not pattern.matches(topic)
            return steps(lambda: pattern.matches(topic))

        # Twice the pattern on twice the topic takes 4 times the steps; if exponential, thousands of times.
        assert cost(30) <= 5 * cost(15) + 50
