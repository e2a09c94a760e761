import subprocess
import sys

import pytest

from gecko_core.command import run_command

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
