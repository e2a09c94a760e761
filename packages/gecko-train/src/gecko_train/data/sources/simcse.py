"""Source ``simcse``: every text with itself (unsupervised SimCSE, Gao et al. 2021, arXiv 2104.08821)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from gecko_core.errors import ConfigError
from gecko_core.io import Section, find_data
from gecko_fret.corpus import count_words, load_corpus, split_sentences
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, check_path, parse_options


class SimcseOptions(Section):
    """Which texts.

    Attributes:
        kinds: sentences of the corpus, its passages, or both.
        min_words: shorter texts are left out.
    """

    kinds: list[Literal["sentences", "passages"]] = Field(default=["sentences"], min_length=1)
    min_words: int = Field(default=5, ge=1)


class Simcse(Source):
    """The texts of the corpus at ``path``, or of the run's.

    A batch embeds both sides of a row, each under its own dropout; the other texts of the batch are its negatives.
    Language models have no dropout of their own: see ``trainer.attention_dropout``.
    """

    options = SimcseOptions
    needs_path = False
    run_input = "corpus"
    not_streamed = "draws no texts twice, for which it looks at all of them"
    cure = "texts of fewer words than options.min_words are left out: lower it, or take whole passages (options.kinds)"

    def check(self, config: SetConfig) -> None:
        """See ``Source``."""
        super().check(config)
        check_path(config)

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``; one text a row."""
        options = parse_options(SimcseOptions, config)
        corpus = load_corpus(find_data(config.path)) if config.path else context.corpus
        if corpus is None:
            raise ConfigError("sets: source 'simcse' without a path and without a corpus; give it a `path`")
        texts: dict[str, None] = {}
        for passage in corpus:
            texts |= dict.fromkeys(split_sentences(passage.text) if "sentences" in options.kinds else [])
            texts |= dict.fromkeys([passage.text] if "passages" in options.kinds else [])
        for text in texts:
            if count_words(text) >= options.min_words:
                yield TrainingRow(config.task or "semantic similarity", text, Document(text), symmetric=True)
