import numpy as np
import pytest

from gecko_core.encode import stream
from gecko_core.encode.stream import Row, encode_stream
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import read_table


def test_npy_equals_encode_and_opens_as_a_memory_map(tiny, sentences, tmp_path):
    count = tiny.encode_stream((text for text in sentences), tmp_path / "o.npy", window=30)
    found = np.load(tmp_path / "o.npy", mmap_mode="r")
    assert count == 100
    assert isinstance(found, np.memmap)
    assert abs(found - tiny.encode(sentences)).max() < 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]


@pytest.mark.parametrize(("precision", "width", "dtype"), [("int8", 8, "int8"), ("binary", 4, "uint8")])
def test_small_precisions(own, sentences, tmp_path, precision, width, dtype):
    own.calibrate(sentences)
    dim = 8 if precision == "int8" else None
    encode_stream(own, sentences, tmp_path / "o.npy", precision=precision, truncate_dim=dim, window=64)
    found = np.load(tmp_path / "o.npy")
    assert (found.shape, str(found.dtype)) == ((100, width), dtype)
    assert abs(found.astype(int) - own.encode(sentences, precision=precision, truncate_dim=dim).astype(int)).max() <= 1


def test_parquet_carries_ids(tiny, sentences, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [Row(text, title=f"t{i}", id=f"p{i}" if i % 2 else None) for i, text in enumerate(sentences)]
    encode_stream(tiny, rows, tmp_path / "o.parquet", kind="document", window=33)
    table = parquet.read_table(tmp_path / "o.parquet")
    assert table["id"].to_pylist() == [f"p{i}" if i % 2 else str(i) for i in range(100)]
    expected = tiny.encode_documents(sentences, [f"t{i}" for i in range(100)])
    assert abs(np.stack(table["embedding"].to_pylist()) - expected).max() < 1e-6


def test_a_flipped_bit_in_a_finished_parquet_file_is_one_line(tiny, sentences, tmp_path, flipped_pages):
    pytest.importorskip("pyarrow")
    encode_stream(tiny, sentences, tmp_path / "o.parquet", window=50)
    whole = [record.fields for record in read_table(tmp_path / "o.parquet")]
    messages = []
    for damaged in flipped_pages(tmp_path / "o.parquet"):
        try:
            assert [record.fields for record in read_table(damaged)] == whole  # a bit that nothing is read from
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 25
    assert all("not a readable Parquet file" in message for message in messages)


def test_queries_get_the_prompt_that_encode_queries_gives_them(tiny, sentences, tmp_path):
    encode_stream(tiny, sentences[:9], tmp_path / "q.npy", kind="query", task="fact checking")
    assert abs(np.load(tmp_path / "q.npy") - tiny.encode_queries(sentences[:9], "fact checking")).max() < 1e-6


def test_interrupted_runs_go_on(tiny, sentences, tmp_path, monkeypatch):
    def breaks():
        yield from sentences[:70]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stream(tiny, breaks(), tmp_path / "o.npy", window=30)
    assert not (tmp_path / "o.npy").exists()

    encoded = []
    real = type(tiny).encode

    def counted(self, texts, *args, **options):
        encoded.append(len(texts))
        return real(self, texts, *args, **options)

    monkeypatch.setattr(type(tiny), "encode", counted)
    encode_stream(tiny, sentences, tmp_path / "o.npy", window=30)
    assert encoded == [30, 10]  # the first two parts were kept
    monkeypatch.undo()
    assert abs(np.load(tmp_path / "o.npy") - tiny.encode(sentences)).max() < 1e-6


def test_parts_of_other_texts_or_options_are_not_reused(tiny, sentences, tmp_path):
    def breaks(texts):
        yield from texts
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stream(tiny, breaks(sentences[:60]), tmp_path / "o.npy", window=30)
    changed = ["another text", *sentences[1:60]]
    with pytest.raises(KeyboardInterrupt):
        encode_stream(tiny, breaks(changed), tmp_path / "o.npy", window=30)
    encode_stream(tiny, changed, tmp_path / "o.npy", window=30, truncate_dim=8)
    assert abs(np.load(tmp_path / "o.npy") - tiny.encode(changed, truncate_dim=8)).max() < 1e-6


def test_nothing_gives_an_empty_file(tiny, tmp_path):
    assert encode_stream(tiny, [], tmp_path / "o.npy") == 0
    assert np.load(tmp_path / "o.npy").shape == (0, 32)


def test_memory_does_not_grow_with_the_input(tiny, tmp_path):
    """Texts are asked for one window at a time."""
    ahead, seen = 0, []

    def rows():
        nonlocal ahead
        for i in range(500):
            ahead += 1
            yield f"gecko {i}"

    real = stream._Parts.write

    def noted(self, number, *rest):
        seen.append(ahead)
        real(self, number, *rest)

    stream._Parts.write = noted
    try:
        encode_stream(tiny, rows(), tmp_path / "o.npy", window=100)
    finally:
        stream._Parts.write = real
    assert seen == [100, 200, 300, 400, 500]


def test_a_full_disk_is_one_line_and_goes_on_later(tiny, sentences, tmp_path):
    """The limit on a file's size stands in for a full disk: writing beyond it fails in the same places."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1000, 30 * 32 * 4 + 200):  # not even a part; the parts, but not the result
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(DataError, match=r"cannot be written \(File too large\); make room") as error:
                encode_stream(tiny, sentences, tmp_path / "o.npy", window=30)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "o.npy").exists()
    assert len(list((tmp_path / ".o.npy.parts").glob("*.npy"))) == 4
    encode_stream(tiny, sentences, tmp_path / "o.npy", window=30)
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]
    assert abs(np.load(tmp_path / "o.npy") - tiny.encode(sentences)).max() < 1e-6


def test_killed_while_writing(tiny, sentences, tmp_path):
    """What a killed process leaves: half-written files, a part without its note, a note without its part."""
    parts = tmp_path / ".o.npy.parts"

    def breaks():
        yield from sentences[:90]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stream(tiny, breaks(), tmp_path / "o.npy", window=30)
    (parts / ".o.npy.77.tmp").write_bytes(b"half")
    (parts / "00000.json").write_text("{")
    (parts / "00001.npy").write_bytes((parts / "00001.npy").read_bytes()[:300])
    (parts / "00002.npy").unlink()
    encode_stream(tiny, sentences, tmp_path / "o.npy", window=30)
    assert [path.name for path in tmp_path.iterdir()] == ["o.npy"]
    assert abs(np.load(tmp_path / "o.npy") - tiny.encode(sentences)).max() < 1e-6


def test_two_runs_at_once(tiny, sentences, tmp_path):
    pytest.importorskip("fcntl")

    def meanwhile():
        yield sentences[0]
        with pytest.raises(DataError, match="another process is writing it"):
            encode_stream(tiny, sentences, tmp_path / "o.npy")
        yield sentences[1]

    assert encode_stream(tiny, meanwhile(), tmp_path / "o.npy") == 2
    assert np.load(tmp_path / "o.npy").shape == (2, 32)


def test_strange_ids(tiny, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    encode_stream(tiny, [Row("a", id="\ud800"), Row("b", id="")], tmp_path / "o.parquet")
    assert parquet.read_table(tmp_path / "o.parquet")["id"].to_pylist() == ["\ufffd", ""]


def test_bad_input(tiny, tmp_path):
    with pytest.raises(DataError, match="row 3: text is NoneType"):
        encode_stream(tiny, ["a", "b", "c", None], tmp_path / "o.npy", window=2)
    with pytest.raises(ConfigError, match=r"written as \.npy or \.parquet"):
        encode_stream(tiny, ["a"], tmp_path / "o.csv")
    with pytest.raises(ConfigError, match="truncate_dim"):
        encode_stream(tiny, ["a"], tmp_path / "o.npy", truncate_dim=99)
    with pytest.raises(ConfigError, match="window"):
        encode_stream(tiny, ["a"], tmp_path / "o.npy", window=0)
    with pytest.raises(ConfigError, match="kind"):
        encode_stream(tiny, ["a"], tmp_path / "o.npy", kind="passage")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        encode_stream(tiny, ["a"], tmp_path / "file" / "o.npy")


def interrupt(model, rows, path, **options):
    """Encode, and be interrupted at the end: all parts are there, the result is not."""

    def breaks():
        yield from rows
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_stream(model, breaks(), path, window=10, **options)


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of texts that a model is asked for."""
    from gecko_core import Gecko

    counts, real = [], Gecko.encode

    def counted(self, texts, *args, **options):
        counts.append(len(texts))
        return real(self, texts, *args, **options)

    monkeypatch.setattr(Gecko, "encode", counted)
    return counts


def test_ids_that_changed_are_those_of_the_input(tiny, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    interrupt(tiny, [Row(f"gecko {i}", id=f"old{i}") for i in range(30)], tmp_path / "o.parquet")
    encode_stream(tiny, [Row(f"gecko {i}", id=f"new{i}") for i in range(30)], tmp_path / "o.parquet", window=10)
    assert parquet.read_table(tmp_path / "o.parquet")["id"].to_pylist() == [f"new{i}" for i in range(30)]


def test_parts_that_are_not_what_was_written_are_made_again(tiny, sentences, tmp_path, encoded):
    parts = tmp_path / ".o.npy.parts"
    interrupt(tiny, sentences[:40], tmp_path / "o.npy")
    first = (parts / "00000.npy").read_bytes()
    (parts / "00000.npy").write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
    (parts / "00001.npy").write_bytes((parts / "00002.npy").read_bytes())
    note = (parts / "00003.json").read_text()
    (parts / "00003.json").write_text(note.replace('"rows": 10', '"rows": 11'))
    encoded.clear()
    encode_stream(tiny, sentences[:40], tmp_path / "o.npy", window=10)
    assert encoded == [10, 10, 10]
    assert abs(np.load(tmp_path / "o.npy") - tiny.encode(sentences[:40])).max() < 1e-6


def changed_calibration(model):
    model.calibrate(["a small gecko", "the tokay barks"])


def changed_prompts(model):
    model.prompt_style = "plain"
    model.prompts = {"document": "barks: "}


def changed_length(model):
    model.max_seq_length = 3


def changed_tokenizer(model):
    from tokenizers import normalizers

    model.tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()])


def changed_dtype(model):
    model.to(__import__("torch").bfloat16)


@pytest.mark.parametrize(
    "change", [changed_calibration, changed_prompts, changed_length, changed_tokenizer, changed_dtype]
)
def test_parts_of_another_model_are_not_reused(own, sentences, tmp_path, encoded, change):
    own.calibrate(sentences)
    options = {"precision": "int8", "kind": "document"}
    interrupt(own, sentences[:20], tmp_path / "o.npy", **options)
    tokenizer = own.tokenizer.backend_tokenizer.to_str()
    change(own)
    encoded.clear()
    try:
        encode_stream(own, sentences[:20], tmp_path / "o.npy", window=10, **options)
    finally:
        own.tokenizer.backend_tokenizer.normalizer = (
            type(own.tokenizer.backend_tokenizer).from_str(tokenizer).normalizer
        )
    assert encoded == [10, 10]


def test_nothing_of_a_users_is_deleted(tiny, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious.txt").write_text("x")
    (tmp_path / ".o.npy.parts").symlink_to("mine")
    with pytest.raises(DataError, match="parts: is a link; remove it"):
        encode_stream(tiny, ["a"], tmp_path / "o.npy")
    (tmp_path / ".o.npy.parts").unlink()
    (tmp_path / "mine").rename(tmp_path / ".o.npy.parts")
    with pytest.raises(DataError, match=r"parts: holds 'precious\.txt', which is no part of embeddings"):
        encode_stream(tiny, ["a"], tmp_path / "o.npy")
    assert (tmp_path / ".o.npy.parts" / "precious.txt").read_text() == "x"


def test_no_two_rows_of_a_parquet_file_have_one_id(tiny, tmp_path):
    pytest.importorskip("pyarrow")
    rows = [Row("a gecko", id="1"), Row("a lizard")]
    with pytest.raises(DataError, match="rows 0 and 1, counted from 0, have the same id '1'"):
        encode_stream(tiny, rows, tmp_path / "o.parquet", window=1)
    assert not (tmp_path / "o.parquet").exists()
    with pytest.raises(DataError, match="have the same id '1'"):
        encode_stream(tiny, rows, tmp_path / "second.parquet")
    assert not list(tmp_path.glob(".second*"))  # no folder for parts that there are none of
    assert encode_stream(tiny, rows, tmp_path / "o.npy") == 2  # holds no ids


@pytest.mark.parametrize("window", [0, -1, 10**23])
def test_windows_are_bounded(tiny, tmp_path, window):
    with pytest.raises(ConfigError, match=r"window must be 1 to 2,147,483,647 rows"):
        encode_stream(tiny, ["a gecko"], tmp_path / "o.npy", window=window)


def test_places_that_cannot_be(tiny, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for name in ("x" * 300, "x" * 250, "x\0y", "a/x"):
        with pytest.raises(DataError, match="cannot be written"):
            tiny.encode_stream(["a gecko"], tmp_path / f"{name}.npy")


def test_a_refused_progress_leaves_nothing(tiny, tmp_path):
    with pytest.raises(ConfigError, match="progress must be True, False or"):
        tiny.encode_stream(["a gecko"], tmp_path / "x.npy", progress="yes")
    assert list(tmp_path.iterdir()) == []
