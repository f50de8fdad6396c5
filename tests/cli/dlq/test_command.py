"""`tidings dlq` as a whole: its verbs explain themselves, and what does not exist has its exit code."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.cli.dlq.conftest import Cemetery
from tidings import Client, TopicOptions
from tidings.cli.dlq.command import dlq
from tidings.cli.main import main

VERBS = ("ls", "show", "redrive", "purge")


def test_every_verb_explains_itself() -> None:
    assert set(dlq.commands) == set(VERBS)
    for verb in VERBS:
        done = CliRunner().invoke(main, ["dlq", verb, "--help"])
        assert done.exit_code == 0
        assert done.output.startswith(f"Usage: main dlq {verb} ")
        assert f"\n  {verb} " in CliRunner().invoke(main, ["dlq", "--help"]).output


@pytest.mark.parametrize("verb", VERBS)
def test_exit_codes(cemetery: Cemetery, verb: str) -> None:
    yes = ["--yes"] if verb in ("redrive", "purge") else []
    cemetery.client.create_topic("drops", TopicOptions(dead_letter_topic=None))
    for topic, code, said in (("nowhere", 3, "'nowhere' does not exist"), ("drops", 2, "drop"), ("a*", 2, "wildcard")):
        done = cemetery.run(verb, topic, *yes)
        assert (done.exit_code, done.stdout) == (code, ""), topic
        assert said in done.stderr
    assert cemetery.run(verb).exit_code == 2


def test_the_url_may_stand_behind_the_verb() -> None:
    with Client("memory:dlq-url") as client:
        client.create_topic("a")
        done = CliRunner().invoke(main, ["dlq", "redrive", "a", "--yes", "--url", "memory:dlq-url"])
    assert (done.exit_code, done.stderr) == (0, "")
