"""The known-item test: passages that no stage of training sees, searched by their own title.

The query is a passage's title, where no other passage has it (or, untitled, its first sentence); the one relevant
document is the passage's remaining text. All bodies, the distractors' too, are searched without titles, so that only
the text tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gecko_core.errors import DataError
from gecko_core.randomness import Stream, stream_generator
from gecko_core.randomness import generator as named_generator
from gecko_core.text_identity import text_id
from gecko_eval.data import RetrievalSet
from gecko_fret.corpus import Corpus, Passage
from gecko_train.config import EvaluationConfig, KnownItemsConfig

_LARGEST_SHARE = 0.25  # of the pairs; the others must be enough to train on
_FEWEST_PAIRS = 10
_FEWEST_ITEMS = 5


@dataclass(frozen=True)
class HeldOut:
    """What no stage of training sees, and the rest.

    Attributes:
        test: what a run reports.
        training: the corpus without the passages set apart; training, seeds and FRet's candidates come from it.
        titles: known items of the same kind for choosing among models, so that the test has no part in the choice;
            None where the recipe needs none or the corpus is too small.
    """

    test: RetrievalSet
    training: Corpus
    titles: RetrievalSet | None = None

    @property
    def texts(self) -> frozenset[int]:
        """Ids of the texts that no stage of training sees: queries, and the passages that answer them."""
        found = set()
        for items in (self.test, self.titles) if self.titles is not None else (self.test,):
            answers = {name for of_query in items.qrels.values() for name in of_query}
            found |= {text_id(query) for query in items.queries}
            found |= {text_id(text) for name, text in zip(items.doc_ids, items.docs, strict=True) if name in answers}
        return frozenset(found)


def hold_out(corpus: Corpus, config: EvaluationConfig, seed: int, known: KnownItemsConfig | None = None) -> HeldOut:
    """Draw the test passages, and the known items where there are any, and take them out of the corpus.

    Args:
        corpus: all passages.
        config: size of the test.
        seed: of the draw; the test's queries do not depend on ``known``.
        known: number of known items.

    Raises:
        DataError: the corpus has too few passages that can serve as known items.
    """
    pairs = list(corpus.pairs())
    if len(pairs) < _FEWEST_PAIRS:
        raise DataError(
            f"corpus {corpus.name}: only {len(pairs)} of {len(corpus)} passages can be searched for, by a title of "
            "their own of three words or more, or by a first sentence that 20 words follow; at least "
            f"{_FEWEST_PAIRS} are needed: give more or longer texts"
        )
    generator = stream_generator(seed, Stream.HOLD_OUT)
    order = generator.permutation(len(pairs))
    count = max(1, min(config.queries, int(len(pairs) * _LARGEST_SHARE)))
    tested = [pairs[index] for index in sorted(order[:count])]
    more = 0 if known is None else few_are_none(min(known.titles, int(len(pairs) * known.share)))
    chosen = [pairs[index] for index in sorted(order[count : count + more])]
    held = {passage.id for _, passage in [*tested, *chosen]}
    # Held-out text must not come back under another id: passages equal to a held-out one leave the training corpus.
    bodies = {text_id(passage.text) for _, passage in [*tested, *chosen]}
    kept = [passage.id for passage in corpus if passage.id not in held and text_id(passage.text) not in bodies]
    training = corpus.subset(kept)
    test = _known_item_set("known-item", tested, training, config.max_documents, config.task, generator)
    titles = None
    if known is not None and chosen:
        draw = named_generator("known titles", seed)
        titles = _known_item_set("titles", chosen, training, known.documents, config.task, draw)
    return HeldOut(test, training, titles)


def few_are_none(count: int) -> int:
    """A number of known items, or 0 where they are too few to tell models apart."""
    return count if count >= _FEWEST_ITEMS else 0


def _known_item_set(
    name: str,
    pairs: Sequence[tuple[str, Passage]],
    others: Corpus,
    max_documents: int,
    task: str,
    generator: np.random.Generator,
) -> RetrievalSet:
    wanted = min(max(0, max_documents - len(pairs)), len(others))
    distractors = [others[int(index)] for index in sorted(generator.permutation(len(others))[:wanted])]
    documents = [passage for _, passage in pairs] + distractors
    return RetrievalSet(
        name=name,
        query_ids=[f"q-{passage.id}" for _, passage in pairs],
        queries=[query for query, _ in pairs],
        doc_ids=[passage.id for passage in documents],
        docs=[passage.text for passage in documents],
        titles=None,
        qrels={f"q-{passage.id}": {passage.id: 1} for _, passage in pairs},
        task=task,
    )
