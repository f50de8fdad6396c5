"""What a subscription is unless it says otherwise."""

from __future__ import annotations

import pytest

from tidings.errors import GroupExists
from tidings.lang import parse_filter
from tidings.model.options import DEFAULT_PREFETCH
from tidings.model.subscription import SubscriptionSpec, check_filter
from tidings.model.topics import parse_topics


def test_the_usual_one_is_temporary_and_wants_everything_from_now_on() -> None:
    spec = SubscriptionSpec(patterns=parse_topics("orders"))
    assert (spec.group, spec.start, spec.prefetch) == (None, "end", DEFAULT_PREFETCH)
    assert (spec.partitions, spec.key, spec.filter) == (None, None, None)
    assert (spec.ordering, spec.priority_order) == (False, False)


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError):
        SubscriptionSpec(patterns=()).group = "other"  # type: ignore[misc]


def test_a_groups_filter_is_taken_over_or_met() -> None:
    large, small = parse_filter("total > 100"), parse_filter("total < 10")
    for has, wanted in ((None, None), (large, None), (large, large)):
        check_filter("g", has, wanted)
    with pytest.raises(GroupExists, match=r"'g' exists already: it has no filter, not 'total > 100'"):
        check_filter("g", None, large)
    with pytest.raises(GroupExists, match=r"its filter is 'total > 100', not 'total < 10'"):
        check_filter("g", large, small)
