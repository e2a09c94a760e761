"""How a command runs: options that cannot be read, Ctrl-C and whatever else goes wrong end it with one line."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from gecko_core.bars import choose_bars
from gecko_core.errors import ConfigError, exit_on_error
from gecko_core.threads import choose_waiting

__all__ = ["run_command", "run_typer", "with_homes"]

_WITHOUT_VALUE = re.compile(r"--[a-z][a-z-]*=")
_MAY_BE_EMPTY = ("--task", "--task-string")
_HOME = re.compile(r"(--[a-z][a-z-]*=)(~.*)", re.DOTALL)


def with_homes(arguments: Sequence[str] | None = None) -> list[str]:
    """The arguments of a command line with ``--name=~/path`` as ``--name ~/path``: shells expand the latter alone.

    Args:
        arguments: those of the command line; by default the process's.
    """
    given = sys.argv[1:] if arguments is None else arguments
    matches = [(_HOME.fullmatch(argument), argument) for argument in given]
    return [match[1] + os.path.expanduser(match[2]) if match else argument for match, argument in matches]


def run_command(command: Callable[[], Any], arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        command: what it does; may return an exit code.
        arguments: those of the command line, where ``--debug`` is looked for; by default the process's.

    Returns:
        The exit code, where it is not raised.

    Raises:
        SystemExit: 2 with a line on stderr for any exception, 130 after Ctrl-C; see ``exit_on_error``.
    """
    given = sys.argv[1:] if arguments is None else arguments
    with exit_on_error("--debug" in given):
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding lacks must not end a run
                stream.reconfigure(errors="backslashreplace")
        choose_waiting()
        choose_bars()
        return int(command() or 0)
    raise AssertionError("exit_on_error swallows nothing")


def run_typer(app: Any, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run an application of typer; wrong usage is one line and exit code 2.

    Args:
        app: the ``typer.Typer``.
        name: of the command.
        arguments: those of the command line; by default the process's.

    Raises:
        SystemExit: see :func:`run_command`; also with the code that the application asks for.
    """
    given = with_homes(arguments)

    def command() -> Any:
        _refuse_empty(given)
        _refuse_torn_settings(given)
        try:
            return app(args=given, prog_name=name, standalone_mode=False)
        except Exception as error:
            # typer's own click has these, by version in one module or another.
            describe = getattr(error, "format_message", None)
            if describe is None:
                raise
            if type(error).__name__ == "NoArgsIsHelpError":
                print(describe(), file=sys.stderr)
                return 2
            context = getattr(error, "ctx", None)
            path = getattr(context, "command_path", None) or name
            raise ConfigError(f"{describe().rstrip('.')}; see {path} --help") from None

    code = run_command(command, given)
    if code:
        raise SystemExit(code)


def _refuse_empty(given: Sequence[str]) -> None:
    """Tell of an empty argument: as a path it would be the current folder.

    Raises:
        ConfigError: there is one.
    """
    for place, argument in enumerate(given):
        before = given[place - 1] if place and given[place - 1].startswith("-") else ""
        if (argument == "" or _WITHOUT_VALUE.fullmatch(argument)) and before not in _MAY_BE_EMPTY:
            name = argument.rstrip("=") or before or "an argument"
            raise ConfigError(f"{name} is empty, like a variable of the shell that is not set; give it a value")


def _refuse_torn_settings(given: Sequence[str]) -> None:
    """Tell of a list after ``--set`` that the shell has cut at its spaces.

    Raises:
        ConfigError: a bracket is not closed in one word, but is in those that follow.
    """
    for place, flag in enumerate(given[:-1]):
        words = list(given[place + 1 :])
        whole = words[0]
        if flag != "--set" or _open_brackets(whole) <= 0:
            continue
        for word in words[1:]:
            whole += f" {word}"
            if _open_brackets(whole) <= 0:
                raise ConfigError(f"--set {words[0]}: the shell has cut it at a space; write --set '{whole}'")


def _open_brackets(text: str) -> int:
    return sum(text.count(mark) for mark in "[{") - sum(text.count(mark) for mark in "]}")
