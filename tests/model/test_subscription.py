"""What a subscription is unless it says otherwise."""

from __future__ import annotations

import pytest

from tidings.model.options import DEFAULT_PREFETCH
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics


def test_the_usual_one_is_temporary_and_wants_everything_from_now_on() -> None:
    spec = SubscriptionSpec(patterns=parse_topics("orders"))
    assert (spec.group, spec.start, spec.prefetch) == (None, "end", DEFAULT_PREFETCH)
    assert (spec.partitions, spec.key, spec.filter) == (None, None, None)
    assert (spec.ordering, spec.priority_order) == (False, False)


def test_it_does_not_change() -> None:
    with pytest.raises(AttributeError):
        SubscriptionSpec(patterns=()).group = "other"  # type: ignore[misc]
