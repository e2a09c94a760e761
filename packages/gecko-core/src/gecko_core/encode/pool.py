"""Encoding on several devices at once: one process for each, fed from one queue."""

from __future__ import annotations

import copy
import os
import queue
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.multiprocessing as mp

from gecko_core.devices import checked_device
from gecko_core.encode.batches import plan_batches
from gecko_core.encode.quantization import Precision, quantize
from gecko_core.encode.texts import checked_texts
from gecko_core.errors import BackendError, ConfigError
from gecko_core.io import Progress, make_progress

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# Characters per job: enough to make good batches, small enough that no worker is left alone with a long last job.
_CHARACTERS = 1_000_000


class EncoderPool:
    """Copies of a model on several devices; use as a context manager.

    Rows come out as from ``Gecko.encode``, up to the rounding that other batches bring. Workers are started once and
    end with the block.

    Args:
        model: the embedder.
        devices: such as ["cuda:0", "cuda:1"] or ["cpu"] * 4.

    Raises:
        ConfigError: no devices, or one that this machine lacks.
    """

    def __init__(self, model: Gecko, devices: Sequence[str]) -> None:
        if not devices:
            raise ConfigError("devices is empty; name at least one, such as 'cpu' or 'cuda:0'")
        for name in devices:
            checked_device(name)
        self.model = model
        self.devices = list(devices)
        self._workers: list[Any] = []

    def __enter__(self) -> EncoderPool:
        context = mp.get_context("spawn")
        self._jobs: Any = context.Queue()
        self._results: Any = context.Queue()
        # Workers on the CPU read the weights from shared memory: no copies.
        shared = self.model if self.model.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        on_cpu = sum(name == "cpu" for name in self.devices)
        threads = max(1, (os.cpu_count() or 1) // max(1, on_cpu))
        for name in self.devices:
            arguments = (shared, name, threads, self._jobs, self._results)
            worker = context.Process(target=_work, args=arguments, daemon=True)
            worker.start()
            self._workers.append(worker)
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.terminate()
        for worker in self._workers:
            worker.join()
        self._workers = []

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_tokens: int | None = None,
        truncate_dim: int | None = None,
        precision: Precision = "float32",
        progress: Progress | bool = False,
    ) -> np.ndarray:
        """Encode texts as they are; options as in ``Gecko.encode``.

        Returns:
            (n, dim) embeddings in the order of the texts.

        Raises:
            BackendError: a worker failed or ended.
            ConfigError: the pool is not running.
        """
        if not self._workers:
            raise ConfigError("the pool is not running; use it as `with EncoderPool(...) as pool`")
        checked = checked_texts(texts)
        width = truncate_dim or self.model.truncate_dim or self.model.dim
        jobs = plan_batches([len(text) for text in checked], _CHARACTERS)
        for number, rows in enumerate(jobs):
            self._jobs.put((number, [checked[row] for row in rows], batch_tokens, truncate_dim))
        embeddings = np.empty((len(checked), width), dtype=np.float32)
        bar = make_progress(progress)
        bar.start("encoding", len(checked), unit="texts")
        try:
            for _ in jobs:
                number, vectors = self._next()
                embeddings[jobs[number]] = vectors
                bar.advance(len(vectors))
        finally:
            bar.finish()
        return quantize(embeddings, precision, self.model.calibration.get(width))

    def _next(self) -> tuple[int, np.ndarray]:
        while True:
            try:
                number, vectors, error = self._results.get(timeout=1)
            except queue.Empty:
                for worker, name in zip(self._workers, self.devices, strict=True):
                    if not worker.is_alive():
                        raise BackendError(
                            f"the encoder on {name} ended (code {worker.exitcode}); try fewer devices"
                        ) from None
                continue
            if error is not None:
                raise BackendError(f"an encoder failed: {error}")
            return number, vectors


def _work(model: Gecko, device: str, threads: int, jobs: Any, results: Any) -> None:
    if device == "cpu":
        torch.set_num_threads(threads)
    else:
        model = model.to(device)
    while True:
        number, texts, batch_tokens, truncate_dim = jobs.get()
        try:
            results.put((number, model.encode(texts, batch_tokens=batch_tokens, truncate_dim=truncate_dim), None))
        except Exception as error:
            results.put((number, None, f"{type(error).__name__}: {error}".splitlines()[0]))
