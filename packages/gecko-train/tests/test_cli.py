"""The command as a user meets it: a process, its exit code, its one line of error, and what it left on disk."""

import json
import os
import subprocess
import sys

import pytest

from gecko_core.errors import ConfigError
from gecko_train.cli import Options


def gecko_train(*arguments, cwd):
    command = [sys.executable, "-c", "from gecko_train.cli import main; main()", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """What the command says, here and not in a process of its own, which would take seconds to begin."""
    from gecko_train.cli import main

    def refused(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["gecko-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return refused


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_help_names_the_commands_and_imports_nothing_heavy(tmp_path):
    script = (
        "import sys; from typer.testing import CliRunner; from gecko_train.cli import app; "
        "print(CliRunner().invoke(app, ['--help']).output); "
        "print('HEAVY', [m for m in ('torch', 'transformers', 'pydantic', 'numpy', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert "HEAVY []" in result.stdout
    for command in ("run", "prefinetune", "finetune", "ablate", "soup"):
        assert command in result.stdout


def test_a_command_without_a_recipe_is_a_usage_error(tmp_path):
    result = gecko_train("finetune", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


GOOD = {"id": "a", "title": "one two three four", "text": "word " * 60}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "missing.jsonl"),
        ("empty.jsonl", b"", "empty.jsonl"),
        ("latin.jsonl", '{"text": "caf\xe9"}\n'.encode("latin-1"), "UTF-8"),
        ("textless.jsonl", b'{"title": "a"}\n', "text"),
        ("twice.jsonl", 2 * (json.dumps(GOOD) + "\n").encode(), "'a'"),
        ("small.jsonl", (json.dumps(GOOD) + "\n").encode(), "at least 10 are needed"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_line_and_nothing_is_left(tmp_path, refused, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    said = refused("--corpus", name, "--out", "out")
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert message in said
    assert not (tmp_path / "out" / "stages").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "finetune.trainer.learning_rat=1"], "error: --set 'finetune.trainer.learning_rat=1': unknown key"),
        (["run", "none.yaml"], "none.yaml: no such recipe"),
        (["run", "quickstar"], "one of: "),
        (["--out", "photos"], "photos: holds files that are not a run of gecko-train"),
        (["finetune", "quickstart"], "source 'fret' needs a path"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_changes_nothing(tmp_path, refused, arguments, message):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("meow")
    before = files(tmp_path)
    said = refused(*arguments)
    assert said.count("\n") == 1
    assert message in said
    assert files(tmp_path) == before


def test_a_model_that_resolves_nowhere_is_one_line(refused, corpus_file):
    said = refused("--corpus", corpus_file, "--student", "no-such/model", "--out", "out")
    assert said.count("error: ") == 1
    assert "no-such/model" in said
    assert "Traceback" not in said


def test_debug_shows_the_traceback(tmp_path):
    result = gecko_train("run", "none.yaml", "--debug", cwd=tmp_path)
    assert result.returncode != 0
    assert "Traceback" in result.stderr


def test_a_soup_of_one_model_is_a_usage_error_in_one_line(tmp_path):
    result = gecko_train("soup", "a", "--out", "soup", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "error: soup: 1 model folder given; name at least two\n"
    assert list(tmp_path.iterdir()) == []


def test_a_flag_wins_over_set_as_in_gecko_fret_and_set_over_tiny():
    options = Options(llm="by-flag", seeds=7, tiny=True, overrides=["fret.llm.model=by-set", "corpus.max_passages=99"])
    recipe = options.recipe("quickstart")
    assert recipe.fret.llm.model == "by-flag"
    assert recipe.fret.generate.seeds == 7
    assert recipe.corpus.max_passages == 99
    assert recipe.evaluation.queries == 30  # --tiny's


def test_a_wrong_setting_names_the_option_that_it_is_from(tmp_path):
    recipe = tmp_path / "mine.yaml"
    sets = "{sets: [{source: title-body}]}"
    recipe.write_text(f"prefinetune: {sets}\nfinetune: {sets}\nfret: {{retrieve: {{seed_top_k: 10}}}}\n")
    with pytest.raises(ConfigError, match=r"^--tiny \(fret\.retrieve\.candidates=4\): fret\.retrieve: "):
        Options(tiny=True).recipe(str(recipe))
    with pytest.raises(ConfigError, match=r"^--set 'fret\.retrieve\.candidates=3': fret\.retrieve: "):
        Options(overrides=["fret.retrieve.candidates=3"]).recipe(str(recipe))
    with pytest.raises(ConfigError, match=r"^--seed -1: seed: "):
        Options(seed=-1).recipe(str(recipe))


def test_one_seed_is_for_all_where_none_is_set_for_the_build():
    assert Options(seed=3).recipe("quickstart").fret.seed == 3
    assert Options(seed=3, overrides=["fret.seed=5"]).recipe("quickstart").fret.seed == 5


def test_threads_are_told_how_to_wait_before_anything_runs(monkeypatch):
    from gecko_train import cli

    called = []
    monkeypatch.setattr("gecko_core.command.choose_waiting", lambda: called.append("waiting"))
    monkeypatch.setattr(cli, "app", lambda **options: called.append("app"))
    monkeypatch.setattr("sys.argv", ["gecko-train"])
    cli.main()
    assert called == ["waiting", "app"]


def test_a_recipe_for_your_corpus_asks_for_it(tmp_path):
    result = gecko_train("run", "adapt", "--tiny", "--out", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == ("error: recipe adapt adapts to your corpus: give it with --corpus PATH")
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    import gecko_train.run.journey
    from gecko_train.cli import app

    def stopped(recipe):
        raise KeyboardInterrupt

    monkeypatch.setattr(gecko_train.run.journey, "run_recipe", stopped)
    with pytest.raises(SystemExit) as ended:
        app(["run", "quickstart", "--out", str(tmp_path / "mine")], standalone_mode=False)
    assert ended.value.code == 130
    said = f"interrupted; what is done is in {tmp_path / 'mine'}. The same command goes on from there.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("command", ["run", "finetune"])
def test_a_dry_run_shows_the_steps_and_leaves_no_folder(tmp_path, corpus_file, tiny_backbone, command):
    recipe = tmp_path / "mine.yaml"
    sets = [{"source": "title-body"}]
    content = {"name": "mine", "corpus": {"path": str(corpus_file)}, "finetune": {"sets": sets}}
    recipe.write_text(json.dumps(content | {"student": {"backbone": True}}))
    before = files(tmp_path)
    result = gecko_train(command, recipe, "--student", tiny_backbone, "--dry-run", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("mine -> runs/mine (not begun); nothing is run or written now\n[1/")
    assert "title-body" in result.stdout
    assert files(tmp_path) == before
