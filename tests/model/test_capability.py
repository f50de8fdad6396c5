"""Capabilities read as words, since errors and listings show them."""

from __future__ import annotations

from tidings.model.capability import Capability


def test_each_has_words_of_its_own() -> None:
    words = [str(each) for each in Capability]
    assert len(set(words)) == len(words)
    assert all(word == word.strip() and word for word in words)
    assert f"{Capability.GROUPS}" == "consumer groups"
