"""One run of a build: the folder is checked, the steps run in their order, and the manifest records what is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import gecko_fret
from gecko_core.errors import ConfigError, DataError
from gecko_core.io import Progress
from gecko_fret.build.answers import SharedProgress, answers_told
from gecko_fret.build.environment import environment
from gecko_fret.build.fingerprints import (
    changed_settings,
    check_config,
    compare_steps,
    fingerprints,
    model_contents,
    prompt_hashes,
)
from gecko_fret.build.folder import Workspace
from gecko_fret.build.idle import idle_settings
from gecko_fret.build.local import run_local
from gecko_fret.build.needs import check_llms, check_models
from gecko_fret.build.parts import BuildParts, is_part
from gecko_fret.build.report import write_report
from gecko_fret.build.served import check_served, scorers
from gecko_fret.build.summary import FretSummary
from gecko_fret.steps import CORPUS, STEPS, BuildContext, PartStep, Step, WholeStep

Engine = Callable[["Build", PartStep[Any, Any], list[int]], None]

_SAVE_EVERY_S = 5.0
_SAVES_SHARE = 0.05  # most of the time that saving after every part may take: the list grows with the build
_QUICK_S = 0.1  # a save that takes less is no burden
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The caller's ``stop`` asked for it; everything up to the last part is on disk."""


class OtherRunError(ConfigError):
    """The folder holds another run.

    Args:
        what: what is wrong.
        cure: what can be done about it.
    """

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}; {cure}")
        self.what = what


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
        self.context, self.workspace, self.progress = context, workspace, SharedProgress(progress)
        self._stop, self._engine = stop, engine or run_local
        self.manifest: dict[str, Any] = {}
        self._saved = self._save_took = 0.0
        self._parts = BuildParts(workspace.out, context.listed)
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
        for line in idle_settings(config):
            _log.warning("%s", line)
        for step in STEPS:
            step.check_corpus(self.context)
        check_llms(config, self.context.models)
        wanted = fingerprints(self.context)
        previous = self.workspace.read_manifest() or {"stages": {}}
        stages, changed = compare_steps(config, previous["stages"], wanted, model_contents(self.context))
        if previous["stages"] and not force and any(step.part_files(self.workspace.out) for step in changed):
            self._refuse(changed, previous.get("config", {}))
        for step in changed if previous["stages"] else ():
            step.clear(self.workspace.out)
        for step in self._parts.take_over(previous, [step for step in STEPS if step not in changed]):
            stages[step.name]["done"] = False
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

    def _refuse(self, changed: list[Step[Any]], before: Mapping[str, Any]) -> None:
        files = {step.folder: len(step.part_files(self.workspace.out)) for step in changed}
        lost = ", ".join(f"{count} of {folder}" for folder, count in files.items() if count)
        raise OtherRunError(
            f"{self.workspace.out}: holds another run: {changed[0].origin} changed since it was built"
            f"{'' if changed[0] is CORPUS else changed_settings(before, self.context.config)}",
            f"--force would delete these parts: {lost or 'none'}; or choose another output folder",
        )

    def _model_record(self) -> dict[str, Any]:
        models, config = self.context.models, self.context.config
        judges = scorers(config) or config.enrich.prompt
        return {
            "llm": {"name": config.llm.model, "hash": models.llm_fingerprint(config.llm)} if judges else None,
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
        self._parts.note(step.own_files(self.workspace.out))
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
        differing = self._parts.differing(step)
        if not differing:
            return False
        again = not all(is_part(name) for name in differing)
        stale: list[Step[Any]] = [step] if again else []
        for later in STEPS[STEPS.index(step) + 1 :]:
            needs = (*later.upstream, *later.depends_on(self.context.config))
            if any(earlier is step or earlier in stale for earlier in needs):
                stale.append(later)
        made = [later for later in stale if later.part_files(self.workspace.out)]
        for later in stale:
            self._parts.clear(later)
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
            if step.metered:
                expected = step.answers(self.context, sum(units[number] for number in missing))
                with answers_told(self.progress, self.context.models.answered, expected):
                    engine(self, step, missing)
            else:
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
        if isinstance(self._running, PartStep):
            self._parts.note_parts(self._running)
        self.manifest |= self._parts.to_json()
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
