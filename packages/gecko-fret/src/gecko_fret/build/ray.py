"""The ray engine: the parts of a step spread over the workers of a Ray cluster that share the output folder."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import BackendError, ConfigError, DataError, GeckoError, ModelError
from gecko_fret.build.fingerprints import prompt_hashes
from gecko_fret.build.folder import Workspace
from gecko_fret.config import FretConfig, LLMConfig
from gecko_fret.models import Models
from gecko_fret.steps import STEPS, BuildContext, PartStep

if TYPE_CHECKING:
    from gecko_fret.build.run import Build

_log = logging.getLogger(__name__)
_PACE = ("requests_per_minute", "tokens_per_minute")
_KINDS: dict[str, type[GeckoError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, ModelError, BackendError)
}


class PartWorker:
    """A Ray Data actor: makes parts with models that it keeps between them.

    An error that a user can cause comes back as a row, because Ray wraps exceptions in ways that change with its
    versions and keep nothing of them but text.

    Args:
        out: the FRet folder.
        config: the build's configuration as a mapping.
        step: name of the step.
        prompts: hashes of the prompts that the build began with; a worker that reads other ones reports a
            ``ConfigError``.
    """

    def __init__(self, out: str, config: dict[str, Any], step: str, prompts: dict[str, str] | None = None):
        self._out, self._config, self._prompts = Path(out), config, prompts
        self._step = next(known for known in STEPS if known.name == step)
        self._build: BuildContext | None = None
        self._spent: dict[str, tuple[int, int]] = {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Part numbers (n) to the units done, seconds, error and tokens spent (JSON) of each."""
        done: dict[str, list[Any]] = {"units": [], "seconds": [], "error": [], "spent": []}
        for number in batch["number"]:
            began, units, message = time.monotonic(), 0, ""
            try:
                units = self._run(int(number))
            except GeckoError as error:
                message = f"{type(error).__name__}: {error}"
            seconds, spent = time.monotonic() - began, json.dumps(self._newly_spent())
            for name, value in (("units", units), ("seconds", seconds), ("error", message), ("spent", spent)):
                done[name].append(value)
        return done

    def _newly_spent(self) -> dict[str, tuple[int, int]]:
        """Tokens read and written by server since this was last asked."""
        before, self._spent = self._spent, self._build.models.spent() if self._build else {}
        newly = {}
        for name, (read, written) in self._spent.items():
            read_before, written_before = before.get(name, (0, 0))
            newly[name] = (read - read_before, written - written_before)
        return newly

    def _run(self, number: int) -> int:
        if self._build is None:
            config = FretConfig.model_validate(self._config)
            if self._prompts is not None and prompt_hashes(config) != self._prompts:
                raise ConfigError(
                    "the prompts on this worker are not those that the build began with; restore them and run again"
                )
            models, workspace = Models(), Workspace(self._out)
            manifest = workspace.read_manifest() or {}
            known = manifest.get("llms", {})
            # What the servers can do, but not what was spent: the build adds up what its workers spend.
            models.recall({name: record | {"spent": {}} for name, record in known.items()})
            self._build = BuildContext(self._out, config, workspace.corpus, models)
            self._build.listed.update(workspace.listed)
            self._build.recorded = manifest
        assert isinstance(self._step, PartStep)
        return self._step.run_part(self._build, number)


class RayEngine:
    """Runs the missing parts of a step through Ray Data.

    A part's content depends on its number alone, so the bytes are those of the local engine. Every worker must see the
    output folder under the same path. On one machine Ray is started here; RAY_ADDRESS joins a cluster.

    Requests and tokens per minute hold for all workers together: each has an equal share.

    Args:
        workers: number of actors; no more than the cluster has processors.

    Raises:
        ModelError: Ray is not installed.
    """

    def __init__(self, workers: int = 2):
        try:
            import ray
        except ImportError:
            raise ModelError("--engine ray: Ray is not installed; pip install 'gecko-fret[ray]'") from None
        self._ray, self._workers, self._told = ray, workers, False

    def __call__(self, build: Build, step: PartStep[Any, Any], missing: list[int]) -> None:
        """Make the missing parts of a step."""
        from ray import data

        if not self._ray.is_initialized():
            self._ray.init(ignore_reinit_error=True, log_to_driver=False)
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # the build reports its own progress
        data.DataContext.get_current().enable_progress_bars = False
        context = build.context
        workers = min(self._workers, len(missing), most_workers(context.config), self._processors())
        options = {
            "out": str(context.out.resolve()),
            "config": shared_pace(context.config, workers).model_dump(mode="json"),
            "step": step.name,
            "prompts": prompt_hashes(context.config),
        }
        parts = data.from_items([{"number": number} for number in missing], override_num_blocks=len(missing))
        done = parts.map_batches(
            PartWorker,
            fn_constructor_kwargs=options,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=workers),
        )
        for row in done.iter_rows():
            context.models.charge(json.loads(row["spent"]))
            raise_from(str(row["error"]))
            build.record(step, int(row["units"]), float(row["seconds"]))

    def _processors(self) -> int:
        """Processors of the cluster: a worker takes one, and Ray would wait in vain for one too many."""
        found = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        if found < self._workers and not self._told:
            _log.warning("--workers %d: Ray has %d processors here, so %d at a time", self._workers, found, found)
            self._told = True
        return found


def most_workers(config: FretConfig) -> int:
    """Workers that can each have at least one of the requests, and of the tokens, that a minute may have."""
    sections = (config.llm, *config.generators)
    limits = [getattr(section, name) for section in sections for name in _PACE]
    return min((limit for limit in limits if limit), default=sys.maxsize)


def shared_pace(config: FretConfig, workers: int) -> FretConfig:
    """The configuration of each of several workers: its share of the requests and tokens a minute."""

    def share(section: LLMConfig) -> LLMConfig:
        limits = {name: getattr(section, name) for name in _PACE}
        return section.model_copy(update={name: limit // workers for name, limit in limits.items() if limit})

    generators = [share(section) for section in config.generators]
    return config.model_copy(update={"llm": share(config.llm), "generators": generators})


def raise_from(error: str) -> None:
    """Raise what a worker wrote into its row; an empty text is no error."""
    kind, _, message = error.partition(": ")
    if error:
        raise _KINDS.get(kind, GeckoError)(message)
