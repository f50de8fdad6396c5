"""Forking with an open client: the child gets one of its own or a typed error, the parent notices nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os, sys
from tidings import Client, Closed

client = Client(f"file:{sys.argv[1]}")
client.create_group("orders", "billing")
client.publish("orders", {"number": 0})

def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print("child:", type(error).__name__, error, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def drained(group="billing"):
    with client.subscribe("orders", consumer_group=group, auto_ack=False) as subscription:
        numbers = []
        while messages := subscription.fetch(max_messages=100, timeout=0.3):
            numbers += [message["number"] for message in messages]
            subscription.ack(messages)
        return numbers
"""

CASES = {
    "a child publishes or is refused": """
        def publish():
            try:
                client.publish("orders", {"number": 1})
            except Closed:
                pass
        assert in_child(publish) == 0
        client.publish("orders", {"number": 2})
        assert drained() in ([0, 1, 2], [0, 2])
    """,
    "a child with a client of its own": """
        def publish():
            with Client(f"file:{sys.argv[1]}") as own:
                own.publish("orders", {"number": 1})
        assert in_child(publish) == 0
        assert drained() == [0, 1]
    """,
    "a child that only ends leaves the parent's leases alone": """
        with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
            (message,) = subscription.fetch(max_messages=1, timeout=5)
            assert in_child(lambda: None) == 0
            with Client(f"file:{sys.argv[1]}") as other:
                with other.subscribe("orders", consumer_group="billing", auto_ack=False) as thief:
                    assert thief.fetch(max_messages=1, timeout=0.3) == []
            message.ack()
        assert drained() == []
    """,
    "a child that closes the client it inherited": """
        with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
            (message,) = subscription.fetch(max_messages=1, timeout=5)
            def close():
                subscription.close()
                client.close()
            assert in_child(close) == 0
            message.ack()
        client.publish("orders", {"number": 1})
        assert drained() == [1]
    """,
    "a child does not keep its killed parent alive": """
        import signal
        reader, writer = os.pipe()
        def hold_and_die():
            with Client(f"file:{sys.argv[1]}") as own:
                subscription = own.subscribe("orders", consumer_group="billing", auto_ack=False)
                subscription.fetch(max_messages=1, timeout=5)
                grandchild = os.fork()
                if grandchild == 0:
                    signal.pause()
                os.write(writer, str(grandchild).encode())
                os.kill(os.getpid(), signal.SIGKILL)
        assert in_child(hold_and_die) == -signal.SIGKILL
        try:
            with client.subscribe("orders", consumer_group="billing", auto_ack=False) as subscription:
                (message,) = subscription.fetch(max_messages=1, timeout=10)
                assert message["number"] == 0
                message.ack()
        finally:
            os.kill(int(os.read(reader, 20)), signal.SIGKILL)
    """,
}


@pytest.mark.parametrize("name", CASES)
def test_forking_with_an_open_client(tmp_path: Path, name: str) -> None:
    program = PRELUDE + textwrap.dedent(CASES[name]) + "\nclient.close()\nprint('done')\n"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "bus")],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.stdout == "done\n", done.stdout + done.stderr
    assert done.returncode == 0
