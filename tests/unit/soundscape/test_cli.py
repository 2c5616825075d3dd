"""The command line's manners: a user's error is one sentence and exit code 2, an interrupt is 130."""

from __future__ import annotations

import click
import pytest

from soundscape import cli
from soundscape.errors import Invalid, Reason, Unavailable


def outcome(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException) -> tuple[int, str]:
    """Exit code and what is said on stderr where a command raises the error."""

    @click.command()
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli, "commands", failing)
    monkeypatch.setattr("sys.argv", ["soundscape"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [Invalid(Reason.BAD_REQUEST, "There is no such site."), Unavailable("The broker is away."), click.UsageError("No.")]
)
def test_a_users_error_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    """No traceback."""
    code, said = outcome(monkeypatch, capsys, error)
    assert code == 2
    assert str(error.message if isinstance(error, click.ClickException) else error) in said
    assert "Traceback" not in said


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What the operating system says, with the path."""
    code, said = outcome(monkeypatch, capsys, FileNotFoundError(2, "No such file or directory", "data/train.csv"))
    assert (code, said) == (2, "soundscape: No such file or directory (data/train.csv).\n")


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command can be run again."""
    code, said = outcome(monkeypatch, capsys, KeyboardInterrupt())
    assert code == 130
    assert "again" in said


def test_our_own_mistakes_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence would hide them."""

    @click.command()
    def failing() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "commands", failing)
    monkeypatch.setattr("sys.argv", ["soundscape"])
    with pytest.raises(ZeroDivisionError):
        cli.main()
