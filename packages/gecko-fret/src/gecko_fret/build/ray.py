"""The ray engine: the parts of a stage spread over the workers of a Ray cluster that share the output folder."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from gecko_core.errors import BackendError, ConfigError, DataError, GeckoError, ModelError
from gecko_fret.config import FretConfig

if TYPE_CHECKING:
    from gecko_fret.build.pipeline import Build


_KINDS: dict[str, type[GeckoError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, ModelError, BackendError)
}


class PartWorker:
    """A Ray Data actor: does the parts it is given with models that it keeps between parts.

    prompts: hashes of the prompts that the build began with; `ConfigError` when this machine reads others.

    An error that a user can cause comes back as a row, for Ray wraps exceptions in ways that change with its versions
    and keep no more of them than text.
    """

    def __init__(self, out: str, config: dict[str, Any], stage: str, prompts: dict[str, str] | None = None):
        self._out, self._config, self._stage, self._prompts = out, config, stage, prompts
        self._runner: Any = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Parts `number` (n) -> (n) `units` done, `seconds` and `error` each."""
        done: dict[str, list[Any]] = {"units": [], "seconds": [], "error": []}
        for number in batch["number"]:
            began, units, error = time.monotonic(), 0, ""
            try:
                units = self._ready().run(self._stage, int(number))
            except GeckoError as found:
                error = f"{type(found).__name__}: {found}"
            for name, value in (("units", units), ("seconds", time.monotonic() - began), ("error", error)):
                done[name].append(value)
        return done

    def _ready(self) -> Any:
        if self._runner is None:
            from gecko_fret.build.fingerprints import prompt_hashes
            from gecko_fret.build.folder import Workspace
            from gecko_fret.build.runner import PartRunner

            parsed = FretConfig.model_validate(self._config)
            if self._prompts is not None and prompt_hashes(parsed) != self._prompts:
                raise ConfigError("the prompts on this worker are not those of the build's start; restore them, go on")
            self._runner = PartRunner(Workspace(self._out), parsed)
        return self._runner


class RayEngine:
    """Runs the missing parts of a stage through Ray Data on `workers` actors.

    A part's content depends on its number alone, so that the bytes are those of the local engine. Every worker must see
    the output folder under the same path. On one machine Ray is started here, on a cluster it joins by RAY_ADDRESS.
    """

    def __init__(self, workers: int = 2):
        try:
            import ray
        except ImportError:
            raise ModelError("--engine ray: Ray is not installed; pip install 'gecko-fret[ray]'") from None
        self._ray, self._workers = ray, workers

    def __call__(self, build: Build, stage: str, missing: list[int]) -> None:
        from ray import data

        from gecko_fret.build.fingerprints import prompt_hashes

        if not self._ray.is_initialized():
            self._ray.init(ignore_reinit_error=True, log_to_driver=False)
        logging.getLogger("ray.data").setLevel(logging.WARNING)  # the build tells of its progress itself
        data.DataContext.get_current().enable_progress_bars = False
        options = {
            "out": str(build.workspace.out.resolve()),
            "config": build.config.model_dump(mode="json"),
            "stage": stage,
            "prompts": prompt_hashes(build.config),
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
            build.record(stage, int(row["units"]), float(row["seconds"]))


def raise_from(error: str) -> None:
    """Raises what a worker wrote into its row; nothing for an empty text."""
    kind, _, message = error.partition(": ")
    if error:
        raise _KINDS.get(kind, GeckoError)(message)
