"""What all commands have in common."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from pykeen_dans.commands import main
from pykeen_dans.commands.group import INTERRUPTED


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """A command that raises what is put into the list."""
    errors: list[BaseException] = []
    monkeypatch.setattr(main, "commands", dict(main.commands))

    @main.command()
    def fail() -> None:
        """Fail."""
        raise errors.pop()

    return errors


def test_errors_are_one_line(failing: list[BaseException]) -> None:
    failing.append(ValueError("epochs=0 is too few; choose 1 or more."))
    result = CliRunner().invoke(main, ["fail"])
    assert result.exit_code == 1
    assert result.output == "Error: epochs=0 is too few; choose 1 or more.\n"


def test_debug_shows_where(failing: list[BaseException]) -> None:
    failing.append(ValueError("epochs=0"))
    with pytest.raises(ValueError, match="epochs=0"):
        CliRunner().invoke(main, ["fail", "--debug"], catch_exceptions=False)


def test_faults_of_ours_are_not_hidden(failing: list[BaseException]) -> None:
    failing.append(KeyError("x"))
    assert isinstance(CliRunner().invoke(main, ["fail"]).exception, KeyError)


def test_interrupted(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    result = CliRunner().invoke(main, ["fail"])
    assert result.exit_code == INTERRUPTED == 130
    assert "Interrupted" in result.stderr


def commands(group: click.Group, *names: str) -> list[tuple[str, ...]]:
    """List the words of all commands."""
    found = []
    for name, command in group.commands.items():
        is_group = isinstance(command, click.Group)
        found += commands(command, *names, name) if is_group else [(*names, name)]
    return found


@pytest.mark.parametrize("words", commands(main), ids=" ".join)
def test_help_has_examples(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--help"])
    assert result.exit_code == 0
    assert "--debug" in result.output
    # of this very command, each in a line of its own
    assert f"  pykeen-dans {' '.join(words)}" in result.output or f"$(pykeen-dans {' '.join(words)}" in result.output
