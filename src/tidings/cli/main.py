"""The command `tidings`: its verbs, each loaded when it is called, and what their errors are as exit codes."""

from __future__ import annotations

from importlib import import_module

import click

from tidings import EngineError, GroupNotFound, TidingsError, TopicNotFound, UsageError, __version__
from tidings.cli.output import ReaderGone, abandon_stdout

ERROR, USAGE, NOT_FOUND, INTERRUPTED = 1, 2, 3, 130
"""Exit codes; 0 is success, and a verb whose `--timeout` passed too early exits with 4."""

VERBS = {
    "publish": "tidings.cli.publish",
    "subscribe": "tidings.cli.subscribe",
    "topics": "tidings.cli.topics",
    "groups": "tidings.cli.groups",
    "query": "tidings.cli.query.command",
    "dlq": "tidings.cli.dlq.command",
    "mirror": "tidings.cli.mirror.command",
    "cluster": "tidings.cli.cluster.command",
    "demo": "tidings.cli.demo.command",
    "bench": "tidings.cli.bench",
}
"""Verb to module. Names, so that publishing one message does not import what draws the tables."""


class Verbs(click.Group):
    """Loads verbs on demand and lets no error of the library out as a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(VERBS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except TidingsError as error:
            notes = getattr(error, "__notes__", [])
            click.echo("\n".join([f"Error: {error}", *notes]), err=True)
            ctx.exit(exit_code(error))
        except ReaderGone:
            abandon_stdout()
            ctx.exit(0)
        except OSError as error:
            click.echo(f"Error: {error.filename or 'writing to stdout'}: {error.strerror}", err=True)
            abandon_stdout()
            ctx.exit(ERROR)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def exit_code(error: TidingsError) -> int:
    """Return 3 for what does not exist, 2 for a call that cannot work, 1 for everything else."""
    if isinstance(error, (TopicNotFound, GroupNotFound)):
        return NOT_FOUND
    return USAGE if isinstance(error, UsageError) and not isinstance(error, EngineError) else ERROR


@click.command(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--url",
    envvar="TIDINGS_URL",
    show_envvar=True,
    metavar="URL",
    help="The bus, such as file:./bus. [default: file:./.tidings]",
)
@click.version_option(__version__, prog_name="tidings")
def main(url: str | None) -> None:
    """Publish and subscribe. No server is needed: a bus is a directory that processes share.

    \b
    In one terminal:     tidings subscribe 'orders/*'
    In another one:      tidings publish orders/placed '{"order_id": 1}'

    Data goes to stdout, what is said to people to stderr. In a pipe the output is JSON Lines.

    Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 timeout, 130 interrupted by Ctrl-C.
    """


if __name__ == "__main__":
    main(prog_name="tidings")
