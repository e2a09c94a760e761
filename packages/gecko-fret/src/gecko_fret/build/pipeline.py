"""Building a FRet data set: the steps in their order over parts on disk, resumable at every part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gecko_core.errors import DataError
from gecko_core.io import Progress, make_progress
from gecko_fret.build.folder import Workspace
from gecko_fret.build.run import Build, Engine, Stopped
from gecko_fret.build.summary import FretSummary
from gecko_fret.config import CorpusConfig, FretConfig
from gecko_fret.corpus.load import load_corpus
from gecko_fret.corpus.passages import Corpus
from gecko_fret.models import Models
from gecko_fret.steps import BuildContext, Step


def read_corpus(section: CorpusConfig) -> Corpus:
    """Read the corpus that a configuration names.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    return load_corpus(
        section.path,
        split=section.split,
        deduplicate=section.deduplicate,
        near_threshold=section.near_threshold,
        language=section.language,
        limit=section.limit,
        rules=section.rules,
    )


def build_fret(
    config: FretConfig,
    out: str | Path,
    *,
    corpus: Corpus | None = None,
    progress: Progress | bool | None = None,
    stop: Callable[[], bool] | None = None,
    force: bool = False,
    models: Models | None = None,
    engine: Engine | None = None,
    until: Step[Any] | None = None,
    announce: Callable[[str], None] | None = None,
) -> FretSummary:
    """Build a FRet folder, or go on with the one in ``out``.

    The same configuration and corpus give the same bytes in every Parquet part. Whatever was finished before an error
    stays valid.

    Args:
        config: what to build.
        out: the folder.
        corpus: passages to use instead of reading ``config.corpus``.
        progress: True for bars or log lines on stderr, or an object with the methods of ``Progress``.
        stop: asked after every part; True ends the build there with ``complete=False``; the same call goes on later.
        force: delete the parts that a changed configuration invalidates, instead of refusing.
        models: ready-made models.
        engine: another way of running parts, see ``gecko_fret.build.ray``.
        until: the last step to run; None: all of them. The same call without it goes on from there.
        announce: takes what users want to read before the first part: what the servers of LLMs can do.

    Returns:
        What was done.

    Raises:
        ConfigError: ``out`` holds another build, or the configuration cannot be met.
        DataError: the corpus or a part cannot be read, or nothing survived.
        ModelError: a model cannot be loaded.
        BackendError: an LLM's server or engine failed, or its budget is spent.
    """
    workspace = Workspace(out)
    config = workspace.with_rules(config)
    if corpus is None:
        corpus = read_corpus(config.corpus)
    if not len(corpus):
        raise DataError("the corpus is empty; there is nothing to write queries for")
    workspace.check_usable()
    with workspace.locked():
        context = BuildContext(workspace.out, config, corpus, models or Models())
        job = Build(context, workspace, make_progress(progress), stop, engine)
        try:
            job.prepare(force)
            job.check_needs(announce)
            return job.run(until)
        except Stopped:
            return job.summary(complete=False)
        finally:
            job.progress.finish()
            job.keep_records()
            context.close()
