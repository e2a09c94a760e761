import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from typer.testing import CliRunner

from gecko_fret.build import command as build_command
from gecko_fret.build.summary import FretSummary
from gecko_fret.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def faked(monkeypatch, make_models, small_corpus):
    """The command with fake models and a small corpus in place of the real ones."""
    from gecko_fret.build import pipeline

    def build(config, out, **options):
        return pipeline.build_fret(config, out, models=make_models(), **options)

    monkeypatch.setattr(build_command, "build_fret", build)
    monkeypatch.setattr(build_command, "read_corpus", lambda section: small_corpus)
    return ["--llm", "fake", "--set", "generate.max_copied=1.0", "--limit", "12", "--set", "mine.fuse=rrf"]


def test_help_names_the_commands_without_loading_torch():
    code = (
        "import sys; sys.argv = ['gecko-fret', '--help']\n"
        "from gecko_fret.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('loaded', [m for m in ('torch', 'transformers', 'pyarrow', 'pydantic') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(command in result.stdout for command in ("build", "report", "export"))
    assert "loaded []" in result.stdout


def test_build_report_and_export(faked, tmp_path):
    out = tmp_path / "fret"
    result = run("build", "--out", out, *faked)
    assert result.exit_code == 0, result.output
    assert "rows from 24 attempts on 40 passages" in result.output
    assert "24 attempts from 12 seeds" in result.stderr  # the plan, before it starts
    assert "load_fret" in result.output
    (out / "report.md").unlink()
    assert run("report", out).exit_code == 0
    assert "# FRet report" in (out / "report.md").read_text()
    result = run("report", out, "--real", tmp_path / "absent.txt")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "absent.txt" in result.output
    result = run("export", out, "--to", tmp_path / "t.parquet")
    assert result.exit_code == 0
    assert "rows ->" in result.output


def test_settings_come_from_the_file_then_from_set_then_from_flags(faked, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"seed": 5, "generate": {"seeds": 3, "attempts": 1}}))
    out = tmp_path / "fret"
    assert (
        run(
            "build", config, "--out", out, "--set", "generate.attempts=2", "--set", "generate.seeds=2", *faked
        ).exit_code
        == 0
    )
    manifest = yaml.safe_load((out / "manifest.json").read_text())
    assert manifest["config"]["seed"] == 5
    assert manifest["config"]["generate"]["attempts"] == 2
    assert manifest["config"]["generate"]["seeds"] == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "--set", "mine.k=1"], "--set 'mine.k=1': unknown key 'mine.k'"),
        (
            ["build", "--set", "retrieve.candidates=2", "--set", "retrieve.seed_top_k=4"],
            "retrieve.seed_top_k (4) is above",
        ),
        (["build", "--corpus", "absent.jsonl"], "absent.jsonl: no such corpus"),
        (["build", "--llm", "no-such-model", "--corpus", "there.jsonl", "--set", "mine.fuse=rrf"], "no-such-model"),
        (["build", "--dry-run", "--corpus", "there.jsonl", "--out", "."], ".: holds files but no manifest.json"),
        (["build", "--dry-run", "--like", "runs"], "runs: holds no finished build"),
        (["build", "--corpus", ""], "the corpus has an empty name"),
        (["build", "--corpus", "2024"], "2024: no such corpus"),
        (["build", "."], ".: is a folder"),
        (["build", "absent.yaml"], "absent.yaml: no such config file"),
        (["build", "--engine", "slurm"], "use local or ray"),
        (["build", "--dry-run", "--set", "llm.url=http://h/v1"], "url is for servers"),
        (["build", "--embedder", ".", "--corpus", "there.jsonl"], "no weight files in"),
        (["llms", "--llm", "m", "--set", "llm.backend=openai", "--set", "llm.url=localhost:8000"], "no address of a"),
        (["judges", "--judges", ","], "--judges ',': name each once"),
        (["judges", "--judges", ""], "--judges '': name each once"),
        (["judges", "--judges", "ql,ql"], "--judges 'ql,ql': name each once"),
        (["judges", "--judges", "oracle", "--corpus", "there.jsonl"], "no judge is called 'oracle'"),
        (["enrich", "--corpus", "there.jsonl", "--columns", ""], "--columns '': name each once"),
        (["report", "."], "not a FRet folder"),
        (["export", ".", "--to", "../x.parquet"], "not a FRet folder"),
        (["export", ".", "--to", "x", "--layout", "csv"], "use one of sentence-transformers"),
    ],
)
def test_errors_are_one_line_and_exit_code_two(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    words = "some words of a passage that is long enough to cut a line of it out"
    (tmp_path / "there.jsonl").write_text("".join(f'{{"text": "{words} {number}"}}\n' for number in range(9)))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in result.output
    assert not (tmp_path / "x").exists()


def test_debug_shows_the_traceback(tmp_path):
    result = run("build", tmp_path / "absent.yaml", "--debug")
    assert result.exit_code == 1
    assert type(result.exception).__name__ == "ConfigError"


def test_dry_run_shows_the_plan_and_writes_nothing(tmp_path):
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "some text of a passage"}\n{"text": "and some other text"}\n')
    result = run("build", "--corpus", corpus, "--out", tmp_path / "fret", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "2 passages" in result.output
    assert "4 attempts from 2 seeds" in result.output
    assert not (tmp_path / "fret").exists()


def test_interrupted_build_says_how_to_go_on(monkeypatch, small_corpus, tmp_path, capsys):
    monkeypatch.setattr(build_command, "read_corpus", lambda section: small_corpus)
    monkeypatch.setattr(build_command, "build_fret", lambda *args, **options: FretSummary(tmp_path, complete=False))
    monkeypatch.setattr(sys, "argv", ["gecko-fret", "build", "--out", "my runs/x", "--force"])
    options = build_command.BuildOptions(None, tmp_path, [])
    assert build_command.run_build(options) == 130
    assert "To go on: gecko-fret build --out 'my runs/x'\n" in capsys.readouterr().out


def test_first_ctrl_c_asks_for_a_stop_and_the_second_ends(capsys):
    flag = build_command.StopFlag()
    assert not flag()
    flag.on_signal(2, None)
    assert flag()
    assert "finishing the current part" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        flag.on_signal(2, None)


def test_ctrl_c_before_the_first_part_ends_at_once(capsys):
    with pytest.raises(KeyboardInterrupt):
        build_command.StopFlag().on_signal(2, None)
    assert "finishing" not in capsys.readouterr().err


def test_ctrl_c_while_a_server_is_asked_what_it_can_do_waits_for_no_answer(faked, server, tmp_path):
    server.pause = 5.0

    def interrupt():
        while not server.bodies:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    served = ["llm.backend=openai", "llm.model=tiny", f"llm.url={server.url}", "mine.fuse=rrf"]
    before = signal.getsignal(signal.SIGINT)  # ignored, where a shell has started the tests in the background
    with pytest.raises(KeyboardInterrupt):
        build_command.run_build(build_command.BuildOptions(None, tmp_path / "fret", served))
    assert server.in_flight == 1  # the server has not answered
    assert signal.getsignal(signal.SIGINT) is before


def test_module_runs_as_a_command():
    environment = os.environ | {"COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-m", "gecko_fret", "build", "--help"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    assert "--dry-run" in result.stdout


def test_threads_are_told_how_to_wait_before_anything_runs(monkeypatch):
    from gecko_fret import cli

    called = []
    monkeypatch.setattr("gecko_core.command.choose_waiting", lambda: called.append("waiting"))
    monkeypatch.setattr(cli, "app", lambda **options: called.append("app"))
    monkeypatch.setattr("sys.argv", ["gecko-fret"])
    cli.main()
    assert called == ["waiting", "app"]
