"""Source ``title-body``: the passages of a corpus, searched by their titles."""

from __future__ import annotations

from collections.abc import Iterator

from gecko_core.errors import ConfigError
from gecko_core.io import find_data
from gecko_fret.corpus import Corpus, load_corpus
from gecko_train.config import SetConfig
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import NoOptions, Source, SourceContext, check_path


class TitleBody(Source):
    """The corpus at ``path``, or the run's."""

    options = NoOptions
    needs_path = False
    run_input = "corpus"

    def check(self, config: SetConfig) -> None:
        """See ``Source``."""
        super().check(config)
        check_path(config)

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``."""
        corpus = load_corpus(find_data(config.path)) if config.path else context.corpus
        if corpus is None:
            raise ConfigError("sets: source 'title-body' without a path and without a corpus; give it a `path`")
        return title_body_rows(corpus, config.task or "search result")


def title_body_rows(corpus: Corpus, task: str = "search result") -> Iterator[TrainingRow]:
    """A passage's title (or first sentence) as the query, its other text as the positive: the paper's first stage."""
    for query, passage in corpus.pairs():
        yield TrainingRow(task, query, Document(passage.text, passage.title))
