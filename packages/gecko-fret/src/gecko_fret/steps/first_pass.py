"""The paper's first pass: an embedder trained on (query, seed passage) before it retrieves the candidates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gecko_core.io import Progress
from gecko_core.losses import same_tower_softmax_loss
from gecko_core.randomness import generator
from gecko_fret.corpus.passages import Corpus
from gecko_fret.models import load_embedder
from gecko_fret.steps.base import BuildContext
from gecko_fret.steps.filter import FILTER, Query

FIRST_PASS = "first_pass"


def first_pass_folder(out: Path) -> Path:
    """Where a build keeps the embedder that it trained; all workers find it there."""
    return out / FIRST_PASS


def build_embedder(build: BuildContext) -> Any:
    """The embedder of a build: the one trained for it where ``retrieve.first_pass`` asks for that."""
    config = build.config.embedder
    if not build.config.retrieve.first_pass:
        return build.models.embedder(config)
    trained = config.model_copy(update={"model": str(first_pass_folder(build.out))})
    return build.keep("first_pass", lambda: load_embedder(trained))


def prepare_first_pass(build: BuildContext, progress: Progress) -> None:
    """Train the embedder of this build and save it in the folder, where the configuration asks for it. Done once."""
    folder = first_pass_folder(build.out)
    if not build.config.retrieve.first_pass or folder.exists():
        return
    queries = [query for query in build.parts(FILTER) if query.seed_id is not None]
    # A copy: the caller's, or the one that other steps go on with, stays what it was.
    embedder = copy.deepcopy(build.models.embedder(build.config.embedder))
    progress.start("train", len(queries), 0, "queries")
    train_first_pass(embedder, queries, build.corpus, build.config.seed, on_step=progress.advance)
    progress.finish()
    embedder.save_pretrained(folder, record={"first_pass": len(queries)})


def train_first_pass(
    embedder: Any,
    queries: Sequence[Query],
    corpus: Corpus,
    seed: int,
    *,
    epochs: int = 1,
    batch_size: int = 64,
    learning_rate: float = 2e-5,
    temperature: float = 0.02,
    max_length: int = 128,
    on_step: Callable[[int], None] = lambda queries: None,
) -> list[float]:
    """Train ``embedder`` in place with the in-batch softmax on (query, its seed). Deterministic on one machine.

    Equal seeds in a batch are no negatives of each other: their ids mask them.

    Args:
        embedder: a ``gecko_core.Gecko``.
        queries: the training queries.
        corpus: holds their seeds.
        seed: decides the order of the queries, and dropout.
        epochs: passes over the queries.
        batch_size: queries per step.
        learning_rate: of AdamW.
        temperature: of the softmax.
        max_length: tokens of a text, the rest is cut off.
        on_step: takes the number of queries after every step, one that is left over included.

    Returns:
        The loss of every step.
    """
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(embedder.parameters(), lr=learning_rate)
    losses = []
    embedder.train()
    for epoch in range(epochs):
        order = generator("first-pass", seed, epoch).permutation(len(queries))
        for start in range(0, len(order), batch_size):
            batch = [queries[place] for place in order[start : start + batch_size]]
            if len(batch) < 2:  # nothing to tell it from
                on_step(len(batch))
                continue
            seeds = [corpus.get(str(query.seed_id)) for query in batch]
            ids = torch.tensor([corpus.row(passage.id) for passage in seeds], device=embedder.device)
            texts = [embedder.format_queries([query.query], query.task)[0] for query in batch]
            documents = embedder.format_documents([p.text for p in seeds], [p.title for p in seeds])
            loss = same_tower_softmax_loss(
                embedder(**embedder.collate(embedder.tokenize(texts, max_length))),
                embedder(**embedder.collate(embedder.tokenize(documents, max_length))),
                temperature=temperature,
                same_tower=False,
                positive_ids=ids,
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            on_step(len(batch))
    embedder.eval()
    return losses
