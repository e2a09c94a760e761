"""The paper's first pass: an embedder trained on (query, seed passage) before it retrieves the candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from gecko_core.randomness import generator
from gecko_fret.corpus.passages import Corpus
from gecko_fret.steps.base import Row


def train_first_pass(
    embedder: Any,
    queries: Sequence[Row],
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
    """Trains `embedder` in place with the in-batch softmax on (query, its seed); returns the loss of every step.

    Equal seeds never meet in a batch's negatives: their ids mask them. Deterministic on one machine. on_step: told the
    number of queries after every step.
    """
    from gecko_kernels import same_tower_softmax_loss

    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(embedder.parameters(), lr=learning_rate)
    losses = []
    embedder.train()
    for epoch in range(epochs):
        order = generator("first-pass", seed, epoch).permutation(len(queries))
        for start in range(0, len(order), batch_size):
            batch = [queries[place] for place in order[start : start + batch_size]]
            if len(batch) < 2:
                continue
            seeds = [corpus.get(row["seed_id"]) for row in batch]
            ids = torch.tensor([corpus.row(passage.id) for passage in seeds], device=embedder.device)
            texts = [embedder.format_queries([row["query"]], row["task"])[0] for row in batch]
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
