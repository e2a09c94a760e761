"""Source ``texts``: single texts without labels, to be embedded as a teacher does (LEAF, arXiv 2509.12539)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from gecko_core.errors import ConfigError, DataError
from gecko_core.io import Section, find_data
from gecko_core.search import top_k
from gecko_fret.corpus import Corpus, count_words, load_corpus, split_sentences
from gecko_fret.query_files import read_queries
from gecko_train.config import SetConfig
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import Source, SourceContext, check_path, parse_options
from gecko_train.loss.block import SIMILARITY_TEMPERATURE

Kind = Literal["passages", "sentences", "titles", "queries"]


class TextsOptions(Section):
    """Which texts.

    Attributes:
        kinds: passages of the corpus, their sentences and titles, and the lines of ``queries``. The lines
            of ``queries`` are read, too, where no kinds are named.
        queries: a file with a query a line (.txt), or a table with a column ``query`` or ``text``, such as a query log;
            see :func:`gecko_fret.query_files.read_queries`.
        min_words: shorter sentences and titles are left out.
        candidates: in blocks, how many passages next to each text, by the teacher, may share a block with it.
    """

    kinds: list[Kind] = Field(default=["passages", "sentences", "titles"], min_length=1)
    queries: str | None = None
    min_words: int = Field(default=3, ge=1)
    candidates: int = Field(default=20, ge=2)


class Texts(Source):
    """The texts of the corpus at ``path``, or of the run's, and queries of the user's own.

    Passages are read in the document format, everything else as queries. No text is the answer of another, so only
    terms with a teacher learn from them.
    """

    options = TextsOptions
    needs_path = False
    has_scores = True
    run_input = "corpus"
    not_streamed = "draws no texts twice, for which it looks at all of them"

    def check(self, config: SetConfig) -> None:
        """See ``Source``: the file of queries, too."""
        options = _read_options(config)
        check_path(config)
        if options.queries is not None:
            read_queries(options.queries)

    def files(self, config: SetConfig) -> dict[str, str]:
        """See ``Source``."""
        queries = parse_options(TextsOptions, config).queries
        return {"queries": queries} if queries else {}

    def rows(self, config: SetConfig, context: SourceContext) -> Iterator[TrainingRow]:
        """See ``Source``; one text a row."""
        options, corpus = _parsed(config, context)
        if "passages" in options.kinds:
            seen = dict.fromkeys(Document(passage.text, passage.title) for passage in corpus)
            yield from (TrainingRow(config.task or "search result", None, None, (document,)) for document in seen)
        for text in _queries(options, corpus):
            yield TrainingRow(config.task or "search result", text, None)

    def blocks(self, config: SetConfig, context: SourceContext, name: str) -> BlockSet:
        """See ``Source``; the candidates of a text are the passages that the teacher finds for it."""
        options, corpus = _parsed(config, context)
        teacher, task = context.teacher, config.task or "search result"
        if teacher is None:
            raise ConfigError(
                "sets: blocks of source 'texts' are the teacher's neighbours; name a `teacher` in the stage"
            )
        queries = list(itertools.islice(_queries(options, corpus), config.limit))
        if not queries:
            raise DataError(f"training set {name}: no sentences, titles or queries; add them to the options (kinds)")
        documents = [Document(passage.text, passage.title) for passage in corpus]
        formatted = teacher.format_documents([d.text for d in documents], [d.title for d in documents])
        asked = teacher.format_queries(queries, task)
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and teacher.missing([*formatted, *asked]):
            raise ConfigError(  # ranks that compute them each for itself could find different neighbours
                f"sets: blocks of source 'texts' need the teacher's vectors in {teacher.folder}; start the same "
                "command once without torchrun, until training begins"
            )
        teacher.add([*formatted, *asked])
        hits = top_k(teacher(asked), teacher(formatted), options.candidates)
        logits = hits.scores / SIMILARITY_TEMPERATURE if context.teacher_temperature is None else hits.scores
        rows = (
            TrainingRow(
                task, query, None, tuple(documents[int(place)] for place in found), scores=tuple(scores.tolist())
            )
            for query, found, scores in zip(queries, hits.rows, logits, strict=True)
        )
        assert config.blocks is not None
        return BlockSet(name, context.left(rows), config.blocks, seed=context.seed)


def _parsed(config: SetConfig, context: SourceContext) -> tuple[TextsOptions, Corpus]:
    options = _read_options(config)
    corpus = load_corpus(find_data(config.path)) if config.path else context.corpus
    if corpus is None:
        raise ConfigError("sets: source 'texts' without a path and without a corpus; give it a `path`")
    return options, corpus


def _read_options(config: SetConfig) -> TextsOptions:
    options = parse_options(TextsOptions, config)
    if options.queries is None and "queries" in options.kinds:
        raise ConfigError("sets: kinds of source 'texts' name queries; give their file in the options (queries: FILE)")
    if options.queries is not None and "kinds" in options.model_fields_set and "queries" not in options.kinds:
        raise ConfigError(
            "sets: source 'texts' is given a file of queries, and its kinds name none; add queries to the kinds, or "
            "leave the file out"
        )
    if options.queries is not None:
        find_data(options.queries)
    return options


def _queries(options: TextsOptions, corpus: Corpus) -> Iterator[str]:
    """Texts in the query format, each once: queries, titles, sentences."""

    def long_enough(texts: Iterable[str | None]) -> Iterator[str]:
        return (text for text in texts if text and count_words(text) >= options.min_words)

    found: list[Iterable[str]] = []
    if options.queries is not None:
        found.append(query.text for query in read_queries(options.queries))
    if "titles" in options.kinds:
        found.append(long_enough(corpus.titles))
    if "sentences" in options.kinds:
        found.append(long_enough(sentence for text in corpus.texts for sentence in split_sentences(text)))
    return iter(dict.fromkeys(itertools.chain.from_iterable(found)))
