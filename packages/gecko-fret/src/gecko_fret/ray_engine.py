"""The ray engine: the parts of a stage spread over the workers of a Ray cluster that share the output folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gecko_core.errors import ModelError
from gecko_fret.config import FretConfig

if TYPE_CHECKING:
    from gecko_fret.pipeline import Build


class PartWorker:
    """A Ray Data actor: does the parts it is given with models that it keeps between parts."""

    def __init__(self, out: str, config: dict[str, Any], stage: str):
        from gecko_fret.stages import PartRunner
        from gecko_fret.workspace import Workspace

        self._stage = stage
        self._runner = PartRunner(Workspace(out), FretConfig.model_validate(config))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        units, seconds = [], []
        for number in batch["number"]:
            began = time.monotonic()
            units.append(self._runner.run(self._stage, int(number)))
            seconds.append(time.monotonic() - began)
        return {"units": units, "seconds": seconds}


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

        if not self._ray.is_initialized():
            self._ray.init(ignore_reinit_error=True, log_to_driver=False)
        data.DataContext.get_current().enable_progress_bars = False
        options = {
            "out": str(build.workspace.out.resolve()),
            "config": build.config.model_dump(mode="json"),
            "stage": stage,
        }
        parts = data.from_items([{"number": number} for number in missing], override_num_blocks=len(missing))
        done = parts.map_batches(
            PartWorker,
            fn_constructor_kwargs=options,
            batch_size=1,
            concurrency=min(self._workers, len(missing)),
        )
        for row in done.iter_rows():
            build.record(stage, int(row["units"]), float(row["seconds"]))
