"""Throws texts at the language until one of them breaks a promise: a program for people who look for holes.

    python -m tests.lang.fuzz -runs=1000000      options are libFuzzer's

Half of the inputs are texts as they come, half are put together from the words of the language.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["tidings.lang", "tidings.model.predicate"]):
    from tests.lang.checking import VOCABULARY, check_filter, check_statements

MAX_CHARACTERS = 2_000
"""Of one input: enough for any way of nesting, and fast."""


def one_input(data: bytes) -> None:
    """Check one text; the first byte says how it is made of the others."""
    provider = atheris.FuzzedDataProvider(data)
    way = provider.ConsumeIntInRange(0, 3)
    if way % 2:
        text = " ".join(VOCABULARY[byte % len(VOCABULARY)] for byte in provider.ConsumeBytes(MAX_CHARACTERS))
    else:
        text = provider.ConsumeUnicodeNoSurrogates(MAX_CHARACTERS)
    if way < 2:
        check_filter(text)
    else:
        check_statements(text)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
