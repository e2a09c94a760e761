"""The known-item test: passages that no stage of training sees, searched by their own title.

The query is a passage's title, where no other passage has it (or, untitled, its first sentence); the one relevant
document is the passage's remaining text. All bodies, the distractors' too, are searched without titles, so that only
the text tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from gecko_core.errors import DataError
from gecko_core.randomness import Stream, stream_generator
from gecko_core.text_identity import text_id
from gecko_eval.data import RetrievalSet
from gecko_fret.corpus import Corpus
from gecko_train.config import EvaluationConfig

_LARGEST_SHARE = 0.25  # of the pairs; the others must be enough to train on
_FEWEST_PAIRS = 10


@dataclass(frozen=True)
class HeldOut:
    """The test, and the corpus without its passages, from which training, seeds and FRet candidates come."""

    test: RetrievalSet
    training: Corpus


def hold_out(corpus: Corpus, config: EvaluationConfig, seed: int) -> HeldOut:
    """Draw the test passages and take them out of the corpus.

    Raises:
        DataError: the corpus has too few passages that can serve as known items.
    """
    pairs = list(corpus.pairs())
    if len(pairs) < _FEWEST_PAIRS:
        raise DataError(
            f"corpus {corpus.name}: only {len(pairs)} passages have a title of their own or a first sentence to be "
            f"found by; at least {_FEWEST_PAIRS} are needed: give more or longer texts"
        )
    generator = stream_generator(seed, Stream.HOLD_OUT)
    count = max(1, min(config.queries, int(len(pairs) * _LARGEST_SHARE)))
    chosen = [pairs[index] for index in sorted(generator.permutation(len(pairs))[:count])]
    held = {passage.id for _, passage in chosen}
    # Held-out text must not come back under another id: passages equal to a held-out one leave the training corpus.
    bodies = {text_id(passage.text) for _, passage in chosen}
    kept = [passage.id for passage in corpus if passage.id not in held and text_id(passage.text) not in bodies]
    training = corpus.subset(kept)
    wanted = min(max(0, config.max_documents - len(chosen)), len(training))
    distractors = [training[int(index)] for index in sorted(generator.permutation(len(training))[:wanted])]
    documents = [passage for _, passage in chosen] + distractors
    test = RetrievalSet(
        name="known-item",
        query_ids=[f"q-{passage.id}" for _, passage in chosen],
        queries=[query for query, _ in chosen],
        doc_ids=[passage.id for passage in documents],
        docs=[passage.text for passage in documents],
        titles=None,
        qrels={f"q-{passage.id}": {passage.id: 1} for _, passage in chosen},
        task=config.task,
    )
    return HeldOut(test, training)
