"""Step ``corpus``: read the passages and set the known-item test apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ConfigError
from gecko_core.randomness import Stream, stream_generator
from gecko_fret import corpus as corpora
from gecko_fret.corpus import Corpus, load_corpus
from gecko_train.config import Recipe
from gecko_train.data.holdout import HeldOut
from gecko_train.run.folder import RunFolder
from gecko_train.run.inputs import Inputs, corpus_input
from gecko_train.run.steps.base import Step

if TYPE_CHECKING:
    from gecko_train.run.journey import Journey


class ReadCorpus(Step):
    """Reads the corpus and holds out the test; every other step sees only what is left."""

    name = "corpus"
    title = "read the corpus"

    def inputs(self, recipe: Recipe) -> Inputs:
        """See ``Step``."""
        return corpus_input(recipe.corpus.path)

    def check(self, recipe: Recipe) -> None:
        """See ``Step``."""
        check_corpus(recipe)

    def work(self, journey: Journey) -> Mapping[str, Any]:
        """See ``Step``."""
        corpus = read_corpus(journey.recipe, journey.folder)
        held_out = journey.hold_out(corpus)
        queries, known = len(held_out.test.queries), _known(held_out)
        return {
            "name": corpus.name,
            "hash": corpus.hash,
            "passages": len(corpus),
            "queries": queries,
            "documents": len(held_out.test.docs),
            **({"known_items": known} if known else {}),
            "note": _note(corpus, held_out),
        }

    def plan(self, journey: Journey) -> list[str]:
        """See ``Step``."""
        corpus = read_corpus(journey.recipe, journey.folder)
        return [_note(corpus, journey.hold_out(corpus))]


def _known(held_out: HeldOut) -> int:
    return len(held_out.titles.queries) if held_out.titles else 0


def _note(corpus: Corpus, held_out: HeldOut) -> str:
    known = _known(held_out)
    return (
        f"{corpus.name}: {len(corpus)} passages; {len(held_out.test.queries)} of them set apart as the test, "
        + (f"{known} to choose by, " if known else "")
        + f"{len(held_out.training)} left for training"
    )


def check_corpus(recipe: Recipe) -> None:
    """Check that a recipe has the corpus that it cannot do without, and that it is there.

    Raises:
        ConfigError: it names none.
        DataError: it is not there, or may not be read.
    """
    if recipe.corpus.required and not recipe.corpus.path:
        raise ConfigError(f"recipe {recipe.name} adapts to your corpus: give it with --corpus PATH")
    corpora.check_corpus(recipe.corpus.path)


def read_corpus(recipe: Recipe, folder: RunFolder) -> Corpus:
    """The recipe's passages, at most ``corpus.max_passages`` of them, drawn by the seed.

    Raises:
        ConfigError: the corpus is not the one that the run in ``folder`` began with.
        DataError: it cannot be read.
    """
    corpus = load_corpus(recipe.corpus.path)
    most = recipe.corpus.max_passages
    if most and most < len(corpus):
        chosen = stream_generator(recipe.seed, Stream.CORPUS_SAMPLE).permutation(len(corpus))[:most]
        corpus = corpus.subset([corpus.ids[index] for index in chosen])
    known = folder.finished(ReadCorpus.name)
    if known is not None and known["hash"] != corpus.hash:
        raise ConfigError(
            f"{folder.path}: the corpus has changed since this run began; choose another folder with --out"
        )
    return corpus
