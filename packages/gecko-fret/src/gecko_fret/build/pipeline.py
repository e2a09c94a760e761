"""Building a FRet data set: the steps in their order over parts on disk, resumable at every part.

The manifest lists the parts with their checksums. A part that is on the list and is what was written is done; any other
is deleted when the next run begins, and made again. Where it then comes out different, so is what was made of it.
"""

from __future__ import annotations

import logging
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gecko_fret
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import PartList, Progress, make_progress, remove_folder
from gecko_fret.build.fingerprints import check_config, fingerprints, model_contents, prompt_hashes
from gecko_fret.build.folder import Workspace
from gecko_fret.build.local import run_local
from gecko_fret.build.needs import check_models
from gecko_fret.build.report import write_report
from gecko_fret.build.served import check_served
from gecko_fret.config import CorpusConfig, FretConfig
from gecko_fret.corpus.load import load_corpus
from gecko_fret.corpus.passages import Corpus
from gecko_fret.models import Models
from gecko_fret.steps import STEPS, BuildContext, PartStep, Step, WholeStep
from gecko_fret.steps.parts import is_readable, rows_of

Engine = Callable[["Build", PartStep[Any, Any], list[int]], None]

_SAVE_EVERY_S = 5.0
_SAVES_SHARE = 0.05  # most of the time that saving after every part may take: the list grows with the build
_QUICK_S = 0.1  # a save that takes less is no burden
_NUMBER = re.compile(r"part-(?:[\w-]+-)?(\d{5,})\.\w+")
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The caller's ``stop`` asked for it; everything up to the last part is on disk."""


@dataclass(slots=True)
class FretSummary:
    """What a build did. ``seconds`` and ``tokens`` are by step and sum over all runs of the build."""

    path: Path
    complete: bool
    counts: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, dict[str, int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return asdict(self) | {"path": str(self.path)}


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


class Build:
    """One run of a build, from the first missing part to the last.

    Args:
        context: what the steps share.
        workspace: the output folder.
        progress: what to report to.
        stop: asked after every part.
        engine: runs parts; None: this process.
    """

    def __init__(
        self,
        context: BuildContext,
        workspace: Workspace,
        progress: Progress,
        stop: Callable[[], bool] | None = None,
        engine: Engine | None = None,
    ):
        self.context, self.workspace, self.progress = context, workspace, progress
        self._stop, self._engine = stop, engine or run_local
        self.manifest: dict[str, Any] = {}
        self._saved = self._save_took = 0.0
        self._lost = PartList(workspace.out)  # parts that are made again, as they were
        self._running: Step[Any] | None = None

    # -- before the first part

    def prepare(self, force: bool) -> None:
        """Check the folder against the configuration, and delete what no longer fits where that is allowed.

        Raises:
            ConfigError: the folder holds another build, or a step cannot do what it is asked for.
        """
        self.workspace.remove_leftovers()
        config, corpus = self.context.config, self.context.corpus
        check_config(config)
        for step in STEPS:
            step.check_corpus(self.context)
        wanted = fingerprints(self.context)
        previous = self.workspace.read_manifest() or {"stages": {}}
        stages, changed = _compare(config, previous["stages"], wanted, model_contents(self.context))
        if previous["stages"] and not force and any(step.part_files(self.workspace.out) for step in changed):
            self._refuse(changed)
        for step in changed if previous["stages"] else ():
            step.clear(self.workspace.out)
        self._take_over(previous, [step for step in STEPS if step not in changed], stages)
        self.manifest = {
            "format": max(step.format(config) for step in STEPS),
            "gecko_fret": gecko_fret.__version__,
            "complete": False,
            "config": config.model_dump(mode="json"),
            "corpus": {"name": corpus.name, "passages": len(corpus), "sha256": corpus.hash},
            "models": self._model_record(),
            **({"llms": previous["llms"]} if previous.get("llms") else {}),
            "prompts": prompt_hashes(config),
            **{
                step.recorded_as: {} if step in changed else previous.get(step.recorded_as, {})
                for step in STEPS
                if step.recorded_as
            },
            "stages": stages,
            "parts": {},
            "lost": {},
            "counts": {},
            "rejects": {},
            "tokens": {},
            "environment": environment(),
        }
        self.context.recorded = self.manifest
        self.save()

    def _take_over(self, previous: Mapping[str, Any], kept: list[Step[Any]], stages: dict[str, dict[str, Any]]) -> None:
        """Take over the parts of the steps that stay, and delete those that are not what was written."""
        out, listed = self.workspace.out, self.context.listed
        if "parts" in previous:
            listed.update(PartList.from_json(out, previous["parts"]))
        else:  # of a version without a list
            for step in kept:
                self._note(path for path in step.own_files(out) if is_readable(path))
        for name in list(listed):
            if not any(step.owns(name) for step in kept):
                listed.drop(name)
        self._lost.update(PartList.from_json(out, previous.get("lost")))
        for step in kept:
            unsound = self._unsound(step)
            for name in unsound:
                _remove(out / name, out)
                part = listed.drop(name)
                if part is not None:
                    self._lost.update(PartList(out, {name: part}))
                    stages[step.name]["done"] = False

    def _unsound(self, step: Step[Any]) -> set[str]:
        """Names of a step's files, listed or there, that must be made again."""
        out, listed = self.workspace.out, self.context.listed
        names = {path.relative_to(out).as_posix() for path in step.own_files(out)}
        names |= {name for name in listed if step.owns(name)}
        faulty = {name for name in names if listed.fault(name)}
        if not faulty or not isinstance(step, PartStep):
            return names if faulty else set()
        # A part and its rejects go together, and so do the files of what a step keeps besides.
        numbers = {_number(name) for name in faulty}
        return {name for name in names if _number(name) in numbers}

    def _note(self, paths: Iterable[Path]) -> None:
        """List files as they are now."""
        for path in paths:
            name = path.relative_to(self.workspace.out).as_posix()
            if name not in self.context.listed:
                self.context.listed.note(name, rows_of(path))

    def _note_parts(self) -> None:
        """List the parts of the running step that are there; its rejects are written before a part."""
        step, out = self._running, self.workspace.out
        if isinstance(step, PartStep):
            rejects = {_number(path.name): path for path in step.own_files(out) if path.parent.name == "rejects"}
            for path in step.part_files(out):
                number = _number(path.name)
                self._note([rejects[number], path] if number in rejects else [path])
            self._note(step.extra_files(out))

    def check_needs(self, announce: Callable[[str], None] | None) -> None:
        """Find out what the servers of LLMs can do and whether all models are there, unless nothing is left to do.

        Raises:
            ConfigError: the configuration asks for more, or sets a budget that several processes would share.
            ModelError: a model that is needed later is not there.
            BackendError: a server cannot be reached.
        """
        config, models = self.context.config, self.context.models
        if all(stage["done"] for stage in self.manifest["stages"].values()):
            return
        models.recall(self.manifest.get("llms", {}))
        limited = any(llm.budget_tokens or llm.budget_usd for llm in (config.llm, *config.writers))
        if limited and self._engine is not run_local:
            raise ConfigError(
                "llm.budget_tokens and llm.budget_usd are kept by one process; use --engine local, or leave them out"
            )
        check_models(config, models)
        table = check_served(config, models)
        self.save()
        if table and announce:
            announce(table)

    def keep_records(self) -> None:
        """Write what is done and what has been spent on servers, however the build ended."""
        if self.manifest.get("stages"):
            with suppress(DataError):  # a full disk has been reported by what was written before
                self.save()

    def _refuse(self, changed: list[Step[Any]]) -> None:
        files = {step.folder: len(step.part_files(self.workspace.out)) for step in changed}
        lost = ", ".join(f"{count} of {folder}" for folder, count in files.items() if count)
        raise ConfigError(
            f"{self.workspace.out}: holds another run: {changed[0].origin} changed since it was built; --force would "
            f"delete these parts: {lost or 'none'}; or choose another output folder"
        )

    def _model_record(self) -> dict[str, Any]:
        models, config = self.context.models, self.context.config
        return {
            "llm": {"name": config.llm.model, "hash": models.llm_fingerprint(config.llm)},
            "generators": [
                {"name": llm.model, "hash": models.llm_fingerprint(llm), "weight": llm.weight} for llm in config.writers
            ],
            "embedder": {"name": config.embedder.model, "hash": models.embedder_fingerprint(config.embedder)},
        }

    # -- the steps

    def run(self, until: Step[Any] | None = None) -> FretSummary:
        """Run all steps in their order, or those up to one.

        Raises:
            Stopped: the caller asked for it.
        """
        for step in STEPS:
            if not self.manifest["stages"][step.name]["done"]:
                for earlier in step.upstream:
                    if not earlier.is_complete(self.context):  # in a folder that builds share
                        self._run(earlier)
                self._run(step)
            if step.recorded_as and not self.manifest[step.recorded_as]:
                self.manifest[step.recorded_as] = step.record(self.context)
            if step is until:
                self.save()
                return self.summary(complete=False)
        return self._finish()

    def _run(self, step: Step[Any]) -> None:
        self._check_stop()
        self._running = step
        step.prepare(self.context, self.progress)
        if isinstance(step, PartStep):
            self._run_parts(step)
        elif isinstance(step, WholeStep):
            self._run_whole(step)
        self._note(step.own_files(self.workspace.out))
        self._running = None
        if self._compare_lost(step):
            self._run(step)
        self.manifest["stages"][step.name]["done"] = True
        self.save()

    def _compare_lost(self, step: Step[Any]) -> bool:
        """Where parts that were made again are not what they were, make again what was made of them.

        Returns:
            Whether that is all of the step: what its parts are made with is not what it was.
        """
        listed = self.context.listed
        differing = []
        for name in [name for name in self._lost if step.owns(name)]:
            before = self._lost.drop(name)
            if name not in listed or listed[name] != before:
                differing.append(name)
        if not differing:
            return False
        again = any(_number(name) is None for name in differing)
        stale: list[Step[Any]] = [step] if again else []
        for later in STEPS[STEPS.index(step) + 1 :]:
            needs = (*later.upstream, *later.depends_on(self.context.config))
            if any(earlier is step or earlier in stale for earlier in needs):
                stale.append(later)
        made = [later for later in stale if later.part_files(self.workspace.out)]
        for later in stale:
            later.clear(self.workspace.out)
            for name in [name for name in listed if later.owns(name)]:
                listed.drop(name)
            self.manifest["stages"][later.name]["done"] = False
        self.manifest |= {changed.recorded_as: {} for changed in (step, *stale) if changed.recorded_as}
        if made:
            names = ", ".join(later.name for later in made)
            _log.warning("%s was lost and came out different; made again of it: %s", differing[0], names)
        return again

    def _run_parts(self, step: PartStep[Any, Any]) -> None:
        numbers = range(step.part_count(self.context))
        units = {number: step.units(self.context, number) for number in numbers}
        if not numbers:  # nothing to measure, say: no line of progress either
            return
        missing = [number for number in numbers if not step.exists(self.context, number)]
        total = sum(units.values())
        self.progress.start(step.name, total, total - sum(units[number] for number in missing), step.unit)
        if missing:
            engine = self._engine if step.distributed else run_local
            engine(self, step, missing)
        self.progress.finish()

    def _run_whole(self, step: WholeStep[Any]) -> None:
        began = time.monotonic()
        self.progress.start(step.name, step.total(self.context), 0, step.unit)
        step.run(self.context, self.progress.advance)
        self.progress.finish()
        self.manifest["stages"][step.name]["seconds"] += time.monotonic() - began

    def record(self, step: Step[Any], units: int, seconds: float) -> None:
        """Note that a part is on disk. Engines call it once per part.

        Raises:
            Stopped: the caller asked for it.
        """
        self.manifest["stages"][step.name]["seconds"] += seconds
        self.progress.advance(units)
        # What is not listed when the process is killed is made again: asking an LLM again costs more than saving.
        wait = self._save_took / _SAVES_SHARE if self._save_took > _QUICK_S else 0.0
        if time.monotonic() - self._saved > (wait if step.metered else max(wait, _SAVE_EVERY_S)):
            self.save()
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop is not None and self._stop():
            self.save()
            raise Stopped

    def save(self) -> None:
        """Write the manifest."""
        began = time.monotonic()
        self._note_parts()
        self.manifest["parts"], self.manifest["lost"] = self.context.listed.to_json(), self._lost.to_json()
        records = self.context.models.records()
        if records:
            self.manifest["llms"] = self.manifest.get("llms", {}) | records
        self.workspace.write_manifest(self.manifest)
        self._saved = time.monotonic()
        self._save_took = self._saved - began

    # -- after the last part

    def _finish(self) -> FretSummary:
        self.manifest["counts"] = self.workspace.counts()
        self.manifest["rejects"] = self.workspace.reject_counts()
        self.manifest["tokens"] = self.workspace.token_counts()
        if any(step.must_have_rows and not self.manifest["counts"][step.counted_as] for step in STEPS):
            self.save()
            listed = ", ".join(
                f"{stage} {reason} {count}"
                for stage, reasons in self.manifest["rejects"].items()
                for reason, count in reasons.items()
            )
            raise DataError(
                f"{self.workspace.out}: no row survived ({listed}); write more queries (generate.seeds) or loosen "
                "retrieve.seed_top_k and mine.*"
            )
        write_report(self.workspace.out)
        self.manifest["complete"] = True
        self.save()
        return self.summary(complete=True)

    def summary(self, complete: bool) -> FretSummary:
        """What has been done so far."""
        workspace, stages = self.workspace, self.manifest["stages"]
        return FretSummary(
            path=workspace.out,
            complete=complete,
            counts=workspace.counts(),
            rejects=workspace.reject_counts(),
            seconds={step.name: round(stages[step.name]["seconds"], 3) for step in STEPS},
            tokens=workspace.token_counts(),
        )


def _number(name: str) -> int | None:
    """The number of the part that a file belongs to; None for a file that is no part's."""
    found = _NUMBER.fullmatch(Path(name).name)
    return int(found[1]) if found else None


def _remove(path: Path, out: Path) -> None:
    """Delete a file, and the folders below ``out`` that it leaves empty."""
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == out or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()


def environment() -> dict[str, Any]:
    """What the numbers were computed with."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "pyarrow": version("pyarrow"),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _compare(
    config: FretConfig,
    previous: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, str],
    contents: Mapping[str, str],
) -> tuple[dict[str, dict[str, Any]], list[Step[Any]]]:
    """The manifest's record of every step, and the steps whose fingerprint, or a model of theirs, is not the folder's.

    Args:
        config: the build's configuration.
        previous: the records that the folder has; those of version 0.1 say nothing of the models' contents.
        wanted: fingerprints of the steps.
        contents: of the models that the steps use.
    """
    stages: dict[str, dict[str, Any]] = {}
    changed: list[Step[Any]] = []
    for step in STEPS:
        record = dict(previous.get(step.name, {}))
        same = record.get("models", contents[step.name]) == contents[step.name]
        upstream_changed = any(earlier in changed for earlier in step.depends_on(config))
        if record.get("fingerprint") != wanted[step.name] or not same or upstream_changed:
            record = {"fingerprint": wanted[step.name], "done": False, "seconds": 0.0}
            changed.append(step)
        stages[step.name] = {**record, "models": contents[step.name]}
    return stages, changed
