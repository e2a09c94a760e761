import os
import subprocess
import sys

import pytest

from gecko_core.command import run_command, run_typer, with_homes

COMMANDS = ["gecko_core", "gecko_fret", "gecko_train", "gecko_eval"]


def test_a_command_returns_its_code_and_ends_on_errors(capsys):
    assert run_command(lambda: None, []) == 0
    assert run_command(lambda: 1, []) == 1
    with pytest.raises(SystemExit) as ended:
        run_command(lambda: 1 / 0, [])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ZeroDivisionError")
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0, ["--debug"])


def run(module, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], stderr=subprocess.PIPE, text=True, timeout=120, **options
    )


@pytest.mark.parametrize("module", COMMANDS)
def test_wrong_usage_is_one_line(module):
    pytest.importorskip(module)
    done = run(module, "--no-such-option", stdout=subprocess.DEVNULL)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--help" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("module", COMMANDS)
def test_a_full_disk_behind_standard_output_is_one_line(module):
    pytest.importorskip(module)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = run(module, "--help", stdout=full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("module", COMMANDS)
def test_an_interrupt_during_imports_is_quiet(module, tmp_path):
    pytest.importorskip(module)
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"from {module}.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_closed_standard_output_is_no_error(tmp_path):
    code = "import sys; sys.stdout = None; from gecko_core.command import run_command; run_command(lambda: 1 / 0, [])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


BARS = """
import sys
from gecko_core.command import run_command, run_typer

def command():
    from tqdm.auto import tqdm
    from transformers.utils import logging
    list(tqdm(range(3), desc="Converting"))
    list(logging.tqdm(range(3), desc="Loading weights"))

run_command(command, [])
"""
NO_VARIABLES = {name: value for name, value in os.environ.items() if "PROGRESS_BARS" not in name and "TQDM" not in name}


def test_bars_of_other_packages_stay_out_of_logs():
    done = subprocess.run([sys.executable, "-c", BARS], env=NO_VARIABLES, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bars_of_other_packages_are_shown_on_a_terminal():
    import pty
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([sys.executable, "-c", BARS], env=NO_VARIABLES, stderr=theirs, timeout=120, check=True)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "Converting: 100%" in shown
    assert "Loading weights: 100%" in shown


@pytest.mark.parametrize("module", COMMANDS)
def test_nothing_that_draws_bars_is_imported_before_a_command_runs(module):
    """Their packages read once, when they are imported, whether to draw."""
    pytest.importorskip(module)
    code = f"import sys, {module}.cli; print({{'tqdm', 'datasets', 'huggingface_hub'}} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "none\n"


def test_a_setting_that_the_shell_has_cut_is_told_with_its_cure(capsys):
    torn = ["build", "--set", "generate.sources=[llm,", "log,", "titles]", "--out", "x"]
    with pytest.raises(SystemExit) as ended:
        run_typer(lambda **_: 0, "gecko-fret", torn)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: --set generate.sources=[llm,: the shell has cut it at a space; "
        "write --set 'generate.sources=[llm, log, titles]'\n"
    )
    for whole in (["--set", "a=[b, c]", "--set", "d={e: f}"], ["--set", "a=[b", "--out", "x"], ["--set"]):
        run_typer(lambda **_: 0, "gecko-fret", whole)  # what is no list at all is for the settings to refuse


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(["run", "--out", ""], "--out"), (["run", "-m", ""], "-m"), (["--out="], "--out"), (["build", ""], "an argument")],
)
def test_an_empty_argument_is_not_the_current_folder(arguments, name, capsys):
    with pytest.raises(SystemExit) as ended:
        run_typer(lambda **_: 0, "gecko-eval", arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {name} is empty")
    run_typer(lambda **_: 0, "gecko-eval", ["run", "--task-string", ""])


def test_a_home_is_expanded_behind_an_equals_sign_as_well(monkeypatch):
    """Shells expand ``--out ~/x`` but not ``--out=~/x``, which would make a folder that is called ``~``."""
    monkeypatch.setenv("HOME", "/home/ada")
    given = ["--out=~/runs", "--out=~", "~/as/it/is", "--set", "output=~/kept", "--task=a~b", "--model=~nosuch/x"]
    assert with_homes(given) == ["--out=/home/ada/runs", "--out=/home/ada", *given[2:]]


@pytest.mark.parametrize("module", COMMANDS)
def test_a_reader_that_has_gone_is_no_error(module):
    """``gecko-train --help | head -1`` in a script that looks at the code of every command of a pipe."""
    pytest.importorskip(module)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(module, "--help", stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
