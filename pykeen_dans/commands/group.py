"""What all commands have in common: errors of one line, exit codes, and what is kept off the screen."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import click

from ..version import VERSION

__all__ = [
    "INTERRUPTED",
    "Command",
    "main",
]

#: The exit code after Ctrl-C, as of a shell
INTERRUPTED = 130
#: What is wrong with the input, rather than with this package
_EXPECTED = (ValueError, TypeError, OSError, MemoryError)

#: The key of --debug
_DEBUG = f"{__name__}.debug"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the screen what PyKEEN logs and warns of, unless --verbose asks for it: progress bars are enough."""
    loggers = [logging.getLogger(name) for name in ("pykeen", "torch_max_mem")]
    levels = [each.level for each in loggers]
    if logging.getLogger().getEffectiveLevel() > logging.INFO:
        for each in loggers:
            each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pin_memory.*")
            warnings.filterwarnings("ignore", message=".*always shuffled.*")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = value


def _log(_: click.Context, __: click.Parameter, value: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(value, 2)]
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-8s %(message)s", datefmt="%H:%M:%S")


class Command(click.Command):
    """A command whose errors are one line, or with ``--debug`` a traceback.

    :param args: positional parameters of :class:`click.Command`
    :param kwargs: keyword-based parameters of :class:`click.Command`
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialise the command."""
        super().__init__(*args, **kwargs)
        debug = click.Option(
            ["--debug"], is_flag=True, expose_value=False, callback=_note, help="Show where an error comes from."
        )
        verbose = click.Option(
            ["-v", "--verbose"], count=True, expose_value=False, callback=_log, help="Log more; -vv for all."
        )
        self.params += [verbose, debug]

    # docstr-coverage: inherited
    def invoke(self, ctx: click.Context) -> Any:  # noqa: D102
        try:
            with _quiet():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nInterrupted.", err=True)
            ctx.exit(INTERRUPTED)
        except _EXPECTED as error:
            if ctx.meta[_DEBUG]:
                raise
            raise click.ClickException(str(error) or type(error).__name__) from error


class Group(click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


@click.group(cls=Group)
@click.version_option(VERSION, prog_name="pykeen-dans")
def main() -> None:
    """Train with shared and generated negative samples in PyKEEN, and look at them."""
