"""The ray engine: the parts of a step spread over the workers of a Ray cluster that share the output folder."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gecko_core.errors import BackendError, ConfigError, DataError, GeckoError, ModelError
from gecko_fret.build.fingerprints import prompt_hashes
from gecko_fret.build.folder import Workspace
from gecko_fret.config import FretConfig
from gecko_fret.models import Models
from gecko_fret.steps import STEPS, BuildContext, PartStep

if TYPE_CHECKING:
    from gecko_fret.build.pipeline import Build

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

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Part numbers (n) to the units done, seconds and error of each."""
        done: dict[str, list[Any]] = {"units": [], "seconds": [], "error": []}
        for number in batch["number"]:
            began, units, message = time.monotonic(), 0, ""
            try:
                units = self._run(int(number))
            except GeckoError as error:
                message = f"{type(error).__name__}: {error}"
            for name, value in (("units", units), ("seconds", time.monotonic() - began), ("error", message)):
                done[name].append(value)
        return done

    def _run(self, number: int) -> int:
        if self._build is None:
            config = FretConfig.model_validate(self._config)
            if self._prompts is not None and prompt_hashes(config) != self._prompts:
                raise ConfigError(
                    "the prompts on this worker are not those that the build began with; restore them and run again"
                )
            models, workspace = Models(), Workspace(self._out)
            models.recall((workspace.read_manifest() or {}).get("llms", {}))
            self._build = BuildContext(self._out, config, workspace.corpus, models)
            self._build.listed.update(workspace.listed)
        assert isinstance(self._step, PartStep)
        return self._step.run_part(self._build, number)


class RayEngine:
    """Runs the missing parts of a step through Ray Data.

    A part's content depends on its number alone, so the bytes are those of the local engine. Every worker must see the
    output folder under the same path. On one machine Ray is started here; RAY_ADDRESS joins a cluster.

    Args:
        workers: number of actors.

    Raises:
        ModelError: Ray is not installed.
    """

    def __init__(self, workers: int = 2):
        try:
            import ray
        except ImportError:
            raise ModelError("--engine ray: Ray is not installed; pip install 'gecko-fret[ray]'") from None
        self._ray, self._workers = ray, workers

    def __call__(self, build: Build, step: PartStep[Any, Any], missing: list[int]) -> None:
        """Make the missing parts of a step."""
        from ray import data

        if not self._ray.is_initialized():
            self._ray.init(ignore_reinit_error=True, log_to_driver=False)
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # the build reports its own progress
        data.DataContext.get_current().enable_progress_bars = False
        context = build.context
        options = {
            "out": str(context.out.resolve()),
            "config": context.config.model_dump(mode="json"),
            "step": step.name,
            "prompts": prompt_hashes(context.config),
        }
        parts = data.from_items([{"number": number} for number in missing], override_num_blocks=len(missing))
        done = parts.map_batches(
            PartWorker,
            fn_constructor_kwargs=options,
            batch_size=1,
            compute=data.ActorPoolStrategy(size=min(self._workers, len(missing))),
        )
        for row in done.iter_rows():
            raise_from(str(row["error"]))
            build.record(step, int(row["units"]), float(row["seconds"]))


def raise_from(error: str) -> None:
    """Raise what a worker wrote into its row; an empty text is no error."""
    kind, _, message = error.partition(": ")
    if error:
        raise _KINDS.get(kind, GeckoError)(message)
