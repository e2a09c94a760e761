import gzip
import json
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest

from gecko_core import Gecko
from gecko_core.cli import main


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tiny.save_pretrained(tmp_path_factory.mktemp("cli") / "model")


@pytest.fixture
def texts(tmp_path, sentences):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": t, "title": "a gecko"}) + "\n" for t in sentences), encoding="utf-8")
    return path


def test_a_file_of_texts_becomes_a_file_of_vectors(folder, texts, sentences, tmp_path, capsys):
    options = ["--model", str(folder), "--kind", "document", "--dtype", "float32", "--device", "cpu", "--quiet"]
    assert main([str(texts), str(tmp_path / "o.npy"), *options, "--truncate-dim", "8"]) == 0
    expected = Gecko.from_pretrained(folder, device="cpu", dtype="float32").encode_documents(
        sentences, ["a gecko"] * 100, truncate_dim=8
    )
    assert abs(np.load(tmp_path / "o.npy") - expected).max() < 1e-6
    assert "100 embeddings" in capsys.readouterr().err


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_user_errors_are_one_line(folder, texts, tmp_path, capsys):
    (tmp_path / "there.npy").write_bytes(b"precious")
    assert "exists" in fails(capsys, texts, tmp_path / "there.npy", "--model", folder)
    assert (tmp_path / "there.npy").read_bytes() == b"precious"
    assert "no such folder" in fails(capsys, texts, tmp_path / "no" / "o.npy", "--model", folder)
    assert "written as .npy or .parquet" in fails(capsys, texts, tmp_path / "o.txt", "--model", folder)
    assert "no such file" in fails(capsys, tmp_path / "none.txt", tmp_path / "o.npy", "--model", folder)
    assert "no-such-model" in fails(capsys, texts, tmp_path / "o.npy", "--model", "no-such-model")
    wrong = ("--model", folder, "--truncate-dim", "99", "--device", "cpu", "--quiet")
    assert "truncate_dim" in fails(capsys, texts, tmp_path / "o.npy", *wrong)
    assert not (tmp_path / "o.npy").exists()


def test_a_bad_row_is_named(folder, tmp_path, capsys):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"txt": "b"}\n')
    line = fails(capsys, tmp_path / "in.jsonl", tmp_path / "o.npy", "--model", folder, "--device", "cpu", "--quiet")
    assert "in.jsonl:2" in line


def test_hostile_inputs(folder, tmp_path, capsys):
    """Every way to spoil a file ends in one line that names it, and leaves no output."""
    spoiled = {
        "binary.jsonl": (b"\xff\xfe\x00garbage", "not UTF-8"),
        "deep.jsonl": (b"[" * 200_000, "deep.jsonl:1: not JSON"),
        "list.jsonl": (b'["a"]\n', "a list; expected a JSON object"),
        "number.jsonl": (b'{"text": 7}\n', "'text' is int"),
        "null.jsonl": (b'{"text": null}\n', "'text' is empty"),
        "title.jsonl": (b'{"text": "a", "title": [3]}\n', "'title' is list"),
        "empty.csv": (b"", "the file is empty"),
        "short.csv": (b"id,text\n1,a gecko\n2\n", "short.csv:3: 1 cells where the header has 2"),
        "header.csv": (b"id,passage\n1,a\n", "no column 'text' (found: id, passage)"),
        "torn.parquet": (b"PAR1 and then nothing", "not a readable Parquet"),
        "kind.xlsx": (b"", "unknown kind of file"),
    }
    for name, (data, expected) in spoiled.items():
        if name.endswith(".parquet"):
            pytest.importorskip("pyarrow")
        (tmp_path / name).write_bytes(data)
        options = ("--model", folder, "--device", "cpu", "--quiet")
        line = fails(capsys, tmp_path / name, tmp_path / "o.npy", *options)
        assert name in line
        assert expected in line
        assert not (tmp_path / "o.npy").exists()


def test_places_that_cannot_hold_the_output(folder, texts, tmp_path, capsys):
    (tmp_path / "d.npy").mkdir()
    assert "is a folder" in fails(capsys, texts, tmp_path / "d.npy", "--model", folder, "--overwrite")
    assert "is a folder" in fails(capsys, texts, ".", "--model", folder)
    assert "cannot be written" in fails(capsys, texts, "/proc/o.npy", "--model", folder, "--device", "cpu")
    (tmp_path / "link.npy").symlink_to(tmp_path / "target.npy")
    assert "is a link" in fails(capsys, texts, tmp_path / "link.npy", "--model", "not/even/looked/at", "--overwrite")
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    both = tmp_path / "both.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a gecko"]}), both)
    assert "is the input as well" in fails(capsys, both, both, "--model", folder, "--overwrite")


@pytest.mark.parametrize(
    ("device", "expected"),
    [("gpu?", "is not a device"), ("cuda:99", "CUDA devices"), ("meta", "this machine has none")],
)
def test_devices_that_are_not_there(folder, texts, tmp_path, capsys, device, expected):
    assert expected in fails(capsys, texts, tmp_path / "o.npy", "--model", folder, "--device", device)


def test_a_huge_line(folder, tmp_path):
    (tmp_path / "huge.txt").write_text("gecko " * 2_000_000 + "\n\nlast", encoding="utf-8")
    options = ["--model", str(folder), "--device", "cpu", "--quiet"]
    assert main([str(tmp_path / "huge.txt"), str(tmp_path / "o.npy"), *options]) == 0
    assert np.isfinite(np.load(tmp_path / "o.npy")).all()


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "blank.jsonl", "a.csv", "head.csv", "a.parquet"])
def test_a_file_without_rows_is_refused(tmp_path, capsys, name):
    path, folder = tmp_path / name, tmp_path / "out"
    folder.mkdir()
    if name.endswith(".parquet"):
        pq = pytest.importorskip("pyarrow.parquet")
        import pyarrow as pa

        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    else:
        data = {"blank.jsonl": b"\n\n", "head.csv": b"id,text\n"}.get(name, b"")
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    # No such model: a file without rows is told before one is looked for.
    line = fails(capsys, path, folder / "o.npy", "--model", tmp_path / "none")
    assert str(path) in line
    assert "holds no row" in line or "the file is empty; it should hold rows" in line
    assert not list(folder.iterdir())


def test_debug_shows_the_traceback(tmp_path):
    from gecko_core.errors import DataError

    with pytest.raises(DataError):
        main([str(tmp_path / "none.txt"), str(tmp_path / "o.npy"), "--model", "x", "--debug"])


def test_help_needs_no_torch():
    code = "import sys; from gecko_core.cli import parser; parser().format_help(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_enriched_texts_are_embedded_in_the_place_of_theirs(folder, texts, sentences, tmp_path, capsys):
    pq = pytest.importorskip("pyarrow.parquet")
    import pyarrow as pa

    run = tmp_path / "enriched-run"
    (run / "enriched").mkdir(parents=True)
    path = run / "enriched" / "part-00000.parquet"
    pq.write_table(pa.table({"text": [sentences[0]], "enriched": ["the tokay barks at night"]}), path)
    part = {"rows": 1, "sha256": sha256(path.read_bytes()).hexdigest()}
    manifest = {"stages": {"enrich": {"done": True}}, "parts": {"enriched/part-00000.parquet": part}}
    (run / "manifest.json").write_text(json.dumps(manifest))
    options = ["--model", str(folder), "--kind", "document", "--dtype", "float32", "--device", "cpu", "--quiet"]
    assert main([str(texts), str(tmp_path / "o.npy"), *options, "--enriched", str(run)]) == 0
    changed = ["the tokay barks at night" if text == sentences[0] else text for text in sentences]
    expected = Gecko.from_pretrained(folder, device="cpu", dtype="float32").encode_documents(changed, ["a gecko"] * 100)
    assert abs(np.load(tmp_path / "o.npy") - expected).max() < 1e-6
    assert f"{sentences.count(sentences[0])} of 100 texts enriched" in capsys.readouterr().err
    assert "not a FRet folder" in fails(capsys, texts, tmp_path / "p.npy", "--model", folder, "--enriched", tmp_path)


def test_a_name_with_control_characters_is_told_on_one_line(folder, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("a gecko\n")
    name = tmp_path / "o\n\x1b[31m.npy"
    assert main([str(tmp_path / "in.txt"), str(name), "--model", str(folder), "--device", "cpu", "--quiet"]) == 0
    assert capsys.readouterr().err.endswith("o\\n\\x1b[31m.npy\n")


@pytest.mark.parametrize("kind", ["text", "query", "document", None])
def test_options_of_another_kind_are_refused(folder, texts, tmp_path, capsys, kind):
    """Titles are read with documents alone, and the task with queries."""
    given = [texts, tmp_path / "o.npy", "--model", "not/even/looked/at", *(["--kind", kind] if kind else [])]
    for option, own in (("--task", "query"), ("--title-column", "document")):
        line = fails(capsys, *given, option, "x")
        assert (f"{option} is that of" in line) == (kind != own)
