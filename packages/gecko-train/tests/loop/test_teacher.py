import torch

from gecko_train.data.rows import Document, RowSet, TrainingRow
from gecko_train.loop.watch import read_metrics


def test_a_teachers_embeddings_are_matched(trainer, tiny_backbone, tiny_model, row_set, tmp_path):
    from gecko_core import Gecko

    torch.manual_seed(3)
    teacher = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32)
    trainer(
        tiny_model,
        [row_set("a", 32)],
        tmp_path,
        max_steps=12,
        teacher=teacher,
        objective={"matching": {"weight": 30.0}},
    ).train()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-1]["matching"] < lines[0]["matching"]


def test_the_teacher_is_asked_once_in_its_own_prompts(
    trainer, tiny_backbone, tiny_model, row_set, tmp_path, monkeypatch
):
    from gecko_core import Gecko

    teacher = Gecko.from_backbone(tiny_backbone, dims=(24,), device="cpu", dtype=torch.float32, seed=5)
    teacher.prompt_style, teacher.prompts = "plain", {"query": "the query : "}
    asked, encode = [], teacher.encode
    monkeypatch.setattr(teacher, "encode", lambda texts, **options: asked.extend(texts) or encode(texts, **options))
    sets = [row_set("a", 24), row_set("b", 24, seed=5)]
    objective = {"matching": {"weight": 1.0}}
    trainer(tiny_model, sets, tmp_path, epochs=3, teacher=teacher, objective=objective).train()
    assert len(asked) == len(set(asked)) == 24 * 2 * 3
    assert sum(text.startswith("the query : ") for text in asked) == 48
    assert not any(text.startswith(("task:", "title:")) for text in asked)


def test_single_texts_are_matched(trainer, tiny_backbone, tiny_model, tmp_path):
    from gecko_core import Gecko

    teacher = Gecko.from_backbone(tiny_backbone, dims=(32,), device="cpu", dtype=torch.float32, seed=5)
    rows = [TrainingRow("t", f"bank {n} dort", None) for n in range(12)]
    rows += [TrainingRow("t", None, None, (Document(f"lims {n} sonk"),)) for n in range(12)]
    objective = {"contrastive_weight": 0.0, "matching": {"weight": 1.0}}
    run = trainer(
        tiny_model, [RowSet.from_rows("texts", rows)], tmp_path, epochs=10, teacher=teacher, objective=objective
    )
    summary = run.train()
    assert summary.last_loss < summary.first_loss
    assert summary.rows == 240
