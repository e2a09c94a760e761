"""The sources by the name that recipes write under ``source``; a new one is a line here. Loading of a set."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace

from gecko_core.errors import ConfigError
from gecko_train.config import SetConfig, StageConfig
from gecko_train.data.adapters.registry import ADAPTERS
from gecko_train.data.apart import SetApart
from gecko_train.data.blocks import BlockSet
from gecko_train.data.rows import NoRowsError, RowSet, TrainingRow
from gecko_train.data.sources.arrow import Arrow
from gecko_train.data.sources.base import Source, SourceContext
from gecko_train.data.sources.beir import Beir
from gecko_train.data.sources.fret import Fret
from gecko_train.data.sources.records import AdaptedRecords
from gecko_train.data.sources.simcse import Simcse
from gecko_train.data.sources.texts import Texts
from gecko_train.data.sources.title_body import TitleBody
from gecko_train.data.streams import StreamedSet

_log = logging.getLogger(__name__)

SOURCES: dict[str, Source] = {
    "title-body": TitleBody(),
    "fret": Fret(),
    "texts": Texts(),
    "simcse": Simcse(),
    "arrow": Arrow(),
    "beir": Beir(),
    **{name: AdaptedRecords(adapter) for name, adapter in ADAPTERS.items()},
}


def run_inputs(sets: Iterable[SetConfig]) -> set[str]:
    """What the sets without a path read of the run: ``corpus``, ``fret``; see ``Source.run_input``."""
    sources = (SOURCES.get(set_config.source) for set_config in sets if set_config.path is None)
    return {source.run_input for source in sources if source is not None and source.run_input is not None}


def option_files(config: SetConfig) -> dict[str, str]:
    """Files that a set's options name, by the option; none of what :func:`check_set` refuses."""
    source = SOURCES.get(config.source)
    try:
        return source.files(config) if source is not None else {}
    except ConfigError:
        return {}


def check_set(config: SetConfig) -> Source:
    """Check what a recipe says of a set, as far as it can be told without reading it.

    Returns:
        Its source.

    Raises:
        ConfigError: unknown source, one that needs a path, cannot be streamed or made blocks of, or a wrong option.
        DataError: a file that it names is not there.
    """
    source = SOURCES.get(config.source)
    if source is None:
        raise ConfigError(f"sets: unknown source {config.source!r}; the sources are {', '.join(SOURCES)}")
    if source.needs_path and not config.path:
        raise ConfigError(f"sets: source {config.source!r} needs a `path`")
    if config.stream and source.not_streamed and config.blocks is None:
        raise ConfigError(f"sets: source {config.source!r} {source.not_streamed}; leave `stream` out")
    if config.blocks is not None and not source.has_blocks:
        able = " and ".join(name for name, known in SOURCES.items() if known.has_blocks)
        raise ConfigError(
            f"sets: source {config.source!r} has no candidates to make blocks of; leave `blocks` out (sources {able} "
            "have them)"
        )
    source.check(config)
    return source


def check_scores(stage: StageConfig) -> None:
    """Check that each term which reads judges' scores has a set whose source may have them.

    Raises:
        ConfigError: one has none, and would learn nothing.
    """
    read: dict[str, list[SetConfig]] = {}
    for entry in stage.sets:
        for name, section in stage.objective_of(entry).terms.items():
            if section.term().needs.scores:
                read.setdefault(name, []).append(entry)
    for name, entries in read.items():
        if not any(check_set(entry).has_scores for entry in entries):
            raise ConfigError(
                f"sets: no source here has scores ({', '.join(entry.source for entry in entries)}), without which "
                f"objective.{name} learns nothing; name a set with scores (source fret), or objective.{name}.weight: 0"
            )


def load_set(config: SetConfig, context: SourceContext) -> RowSet | StreamedSet | BlockSet:
    """Load one set of a recipe: in memory, memory-mapped (source ``arrow``), streamed, or cut into blocks.

    Raises:
        ConfigError: unknown source, one that needs a path or a corpus which is not there, or one that is not streamed.
        DataError: the data cannot be read as that source.
    """
    source = check_set(config)
    name = config.called
    of_the_run = config.path is None and source.run_input is not None
    apart = None if of_the_run or context.apart is None else SetApart(context.apart.texts)
    context = replace(context, apart=apart)
    where = config.path or (f"the run's {source.run_input}" if source.run_input else None)
    empty = NoRowsError(name, where, source.cure)
    if config.blocks is not None or not config.stream:
        try:
            loaded = (source.load if config.blocks is None else source.blocks)(config, context, name)
        except NoRowsError:
            raise empty from None
        note = apart.note(name) if apart is not None else None
        if note:
            _log.warning("%s", note)
        return loaded

    def read() -> Iterator[TrainingRow]:
        return itertools.islice(context.left(source.rows(config, context)), config.limit)

    # A path or column that is wrong shows now, not in the middle of training; and so does a set without rows.
    if next(read(), None) is None:
        raise empty
    return StreamedSet(name, read, config.rows or 1, seed=context.seed, window=config.shuffle_rows)
