import numpy as np
import pytest
import torch

from gecko_core.errors import ModelError
from gecko_train.config import BlocksConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.data.teacher import TeacherVectors, teacher_texts, text_key


@pytest.fixture
def teacher(tiny_backbone):
    """A plain model with prefixes of its own."""
    from gecko_core import Gecko

    model = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=5)
    model.prompt_style = "plain"
    model.prompts = {"query": "the query : ", "document": "the text : "}
    return model


def counted(model, monkeypatch):
    asked, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda texts, **options: asked.extend(texts) or encode(texts, **options))
    return asked


def test_a_text_is_computed_once_and_found_again_by_another_process(teacher, tmp_path, monkeypatch):
    asked = counted(teacher, monkeypatch)
    texts = [f"bank dort {n}" for n in range(30)]
    TeacherVectors(teacher, tmp_path).add([*texts, *texts])
    assert sorted(asked) == sorted(texts)
    vectors = TeacherVectors(teacher, tmp_path)
    found = vectors(texts[::-1])
    assert len(asked) == 30
    np.testing.assert_allclose(found, teacher.encode(texts[::-1]), atol=1e-3)
    assert found.dtype == np.float32
    asked.clear()
    vectors.add([*texts, "a new one"])
    assert asked == ["a new one"]


def test_cosines_survive_the_rounding(teacher, tmp_path):
    texts = [f"bank dort lims {n}" for n in range(40)]
    vectors = TeacherVectors(teacher, tmp_path)
    vectors.add(texts)
    exact, kept = teacher.encode(texts), vectors(texts)
    assert np.abs(exact @ exact.T - kept @ kept.T).max() < 1e-3


def test_a_text_that_was_not_added_is_computed_and_not_kept(teacher, tmp_path):
    vectors = TeacherVectors(teacher, tmp_path)
    vectors.add(["known"])
    np.testing.assert_allclose(vectors(["new", "known"]), teacher.encode(["new", "known"]), atol=1e-3)
    assert TeacherVectors(teacher, tmp_path).missing(["new", "known"]).keys() == {text_key("new")}


def test_a_killed_process_goes_on_after_its_last_part(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("gecko_train.data.teacher._CHUNK", {"cpu": 5})
    monkeypatch.setattr("gecko_train.data.teacher._PART", 10)
    texts = [f"bank {n}" for n in range(35)]
    encode, calls = teacher.encode, []

    def killed(part, **options):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(len(part))
        return encode(part, **options)

    monkeypatch.setattr(teacher, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        TeacherVectors(teacher, tmp_path).add(texts)
    monkeypatch.setattr(teacher, "encode", encode)
    vectors = TeacherVectors(teacher, tmp_path)
    assert len(vectors.missing(texts)) == 15
    vectors.add(texts)
    whole = TeacherVectors(teacher, tmp_path / "whole")
    whole.add(texts)
    np.testing.assert_array_equal(vectors(texts), whole(texts))


def test_a_slow_teacher_writes_by_the_clock(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("gecko_train.data.teacher._CHUNK", {"cpu": 5})
    monkeypatch.setattr("gecko_train.data.teacher._SECONDS", 0.0)
    vectors = TeacherVectors(teacher, tmp_path)
    vectors.add([f"bank {n}" for n in range(12)])
    assert len(list(vectors.folder.glob("*.keys.npy"))) == 3


def test_vectors_belong_to_one_teacher_and_to_the_exact_text(teacher, tiny_backbone, tmp_path):
    from gecko_core import Gecko

    TeacherVectors(teacher, tmp_path).add(["bank"])
    other = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=6)
    assert len(TeacherVectors(other, tmp_path).missing(["bank"])) == 1
    assert len(TeacherVectors(teacher, tmp_path).missing(["bank", "Bank", "bank "])) == 2


def test_ranks_share_the_work(teacher, tmp_path, monkeypatch):
    asked = counted(teacher, monkeypatch)
    texts = [f"bank {n}" for n in range(9)]
    ranks = [TeacherVectors(teacher, tmp_path, rank=rank, world_size=2) for rank in range(2)]
    ranks[1].add(texts, wait=lambda: ranks[0].add(texts))  # the other rank does its share meanwhile
    assert sorted(asked) == texts
    assert not ranks[1].missing(texts)


@pytest.mark.parametrize("kind", ["vectors.npy", "keys.npy", "json"])
@pytest.mark.parametrize("damage", ["lost", "cut", "flipped"])
def test_a_damaged_part_is_computed_again(teacher, tmp_path, kind, damage):
    vectors = TeacherVectors(teacher, tmp_path)
    vectors.add(["bank"])
    wanted = vectors(["bank"])
    (path,) = vectors.folder.glob(f"*.{kind}") if kind != "json" else vectors.folder.glob("*.json")
    data = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(data[:-30] if damage == "cut" else data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    again = TeacherVectors(teacher, tmp_path)
    assert len(again.missing(["bank"])) == 1
    again.add(["bank"])
    assert np.array_equal(TeacherVectors(teacher, tmp_path)(["bank"]), wanted)


def test_vectors_of_another_teacher_are_not_taken(teacher, tmp_path):
    TeacherVectors(teacher, tmp_path).add(["bank"])
    teacher.prompts = {"query": "another : "}
    assert len(TeacherVectors(teacher, tmp_path).missing(["bank"])) == 1


def test_a_teacher_without_numbers_is_named(teacher, tmp_path):
    with torch.no_grad():
        next(iter(teacher.backbone.parameters())).fill_(torch.nan)
    with pytest.raises(ModelError, match=r"the teacher \(.+\): row 0: the embedding is not finite"):
        TeacherVectors(teacher, tmp_path).add(["bank"])


def test_the_teacher_reads_its_own_prompts(teacher, tmp_path):
    vectors = TeacherVectors(teacher, tmp_path)
    rows = [TrainingRow("t", "q", Document("p", "title"), (Document("n"),)), TrainingRow("t", "r", None)]
    own = ["the query : q", "the text : title p", "the text : n", "the query : r"]
    assert list(teacher_texts(RowSet.from_rows("set", rows), vectors, 2)) == own
    assert "the text : n" not in list(teacher_texts(RowSet.from_rows("set", rows), vectors, 1))
    blocks = BlockSet("blocks", rows[:1], BlocksConfig())
    assert set(teacher_texts(blocks, vectors, 1)) == set(own[:3])
