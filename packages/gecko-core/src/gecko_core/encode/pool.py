"""Encoding on several devices at once: one process for each, fed one job at a time."""

from __future__ import annotations

import copy
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.multiprocessing as mp

from gecko_core.devices import checked_device
from gecko_core.encode.batches import plan_batches
from gecko_core.encode.quantization import Precision, quantize
from gecko_core.encode.texts import checked_texts
from gecko_core.errors import BackendError, ConfigError, first_line
from gecko_core.io import Progress, make_progress
from gecko_core.threads import usable_cores

if TYPE_CHECKING:
    from gecko_core.model import Gecko

# Characters per job: enough to make good batches, small enough that no worker is left alone with a long last job.
_CHARACTERS = 1_000_000
_LAST_WORDS = 5.0  # seconds for a process whose pipe is closed to end


def device_names(devices: Iterable[str | torch.device]) -> list[str]:
    """Return the names of devices, in their order.

    Raises:
        ConfigError: no list, an empty one, or a device that this machine lacks.
    """
    if isinstance(devices, str | bytes) or not isinstance(devices, Iterable):
        raise ConfigError(f"devices must be a list such as ['cuda:0', 'cuda:1'], not {devices!r}")
    names = [str(checked_device(device)) for device in devices]
    if not names:
        raise ConfigError("devices is empty; name at least one, such as 'cpu' or 'cuda:0'")
    return names


class EncoderPool:
    """Copies of a model on several devices; use as a context manager.

    Rows come out as from ``Gecko.encode``, up to the rounding that other batches bring. Workers are started once and
    end with the block.

    Args:
        model: the embedder.
        devices: such as ["cuda:0", "cuda:1"] or ["cpu"] * 4.

    Raises:
        ConfigError: no list, no devices, or one that this machine lacks.
    """

    def __init__(self, model: Gecko, devices: Sequence[str]) -> None:
        self.model = model
        self.devices = device_names(devices)
        self._workers: list[_Worker] = []

    def __enter__(self) -> EncoderPool:
        context = mp.get_context("spawn")
        # Workers on the CPU read the weights from shared memory: no copies.
        shared = self.model if self.model.device.type == "cpu" else copy.deepcopy(self.model).cpu()
        on_cpu = sum(name == "cpu" for name in self.devices)
        threads = max(1, usable_cores() // max(1, on_cpu))
        try:
            for name in self.devices:
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(name, threads, theirs), daemon=True)
                with _interrupts_wait():
                    process.start()
                    self._workers.append(_Worker(name, process, ours))
                theirs.close()  # so that its end is seen here
            # Not as an argument: a start waits until all arguments are read, for ever if the process ends before that.
            for worker in self._workers:
                worker.give_model(shared)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
            worker.pipe.close()
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
        embeddings = np.empty((len(checked), width), dtype=np.float32)
        bar = make_progress(progress)
        bar.start("encoding", len(checked), unit="texts")
        waiting, failed = deque(enumerate(jobs)), ""
        try:
            while waiting or any(worker.busy for worker in self._workers):
                for worker in self._workers:
                    if worker.idle and waiting:
                        number, rows = waiting.popleft()
                        worker.give((number, [checked[row] for row in rows], batch_tokens, truncate_dim))
                for number, vectors, error in self._answers():
                    if error is not None:
                        failed = failed or error
                        waiting.clear()  # those that have a job finish it: no answer is left for the next call
                    else:
                        embeddings[jobs[number]] = vectors
                        bar.advance(len(vectors))
        except BaseException:
            self._end()
            raise
        finally:
            bar.finish()
        if failed:
            raise BackendError(f"an encoder failed: {failed}")
        return quantize(embeddings, precision, self.model.calibration.get(width))

    def _answers(self) -> Iterator[tuple[int, Any, str | None]]:
        """Wait until a worker has an answer, or has ended, and yield all answers that are there."""
        wait([one for worker in self._workers for one in (worker.pipe, worker.process.sentinel)])
        for worker in self._workers:
            # One that has ended may have answered before.
            if worker.pipe.poll():
                answer = worker.take()
                if answer is not None:
                    yield answer
            elif not worker.process.is_alive():
                raise worker.ended()


class _Worker:
    """A process and our end of the pipe to it.

    Attributes:
        started: whether it has said that it has its model.
        busy: whether it has a job.
    """

    def __init__(self, device: str, process: Any, pipe: Any):
        self.device, self.process, self.pipe = device, process, pipe
        self.started = self.busy = False

    @property
    def idle(self) -> bool:
        return self.started and not self.busy

    def give_model(self, model: Gecko) -> None:
        self._send(model)

    def give(self, job: tuple[Any, ...]) -> None:
        self._send(job)
        self.busy = True

    def _send(self, content: object) -> None:
        try:
            self.pipe.send(content)
        except OSError:
            raise self.ended() from None

    def take(self) -> tuple[int, Any, str | None] | None:
        """Its answer; None for the word that it has started."""
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            raise self.ended() from None
        if answer is None:
            self.started = True
        self.busy = False
        return answer

    def ended(self) -> BackendError:
        self.process.join(_LAST_WORDS)
        how = f"the encoder on {self.device} ended (code {self.process.exitcode})"
        if self.started:
            return BackendError(f"{how}; try fewer devices")
        return BackendError(
            f"{how} before it had started; in a script, put what encodes below `if __name__ == '__main__':`, or it is "
            "run again by every process; otherwise try fewer devices"
        )


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C ends the parent, which ends its workers, and must know them for that.

    One within the block is raised at its end. What is started in the block does not get any: it inherits the mask, and
    has it before its first import.
    """
    came: list[int] = []
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    if masks:
        resource_tracker.ensure_running()  # or the first start of a process starts it, and takes the mask away
    # Only the main thread may set a handler. The mask alone would not do: the signal may reach another thread, and
    # Python would raise KeyboardInterrupt in this one.
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    handled = is_main and callable(handler)
    if handled:
        signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if masks else set()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handled:
            signal.signal(signal.SIGINT, handler)
    if came:
        signal.raise_signal(signal.SIGINT)


def _work(device: str, threads: int, pipe: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where there is no mask to inherit
    try:
        model: Gecko = pipe.recv()
    except EOFError:  # the parent is gone
        return
    if device == "cpu":
        torch.set_num_threads(threads)
    else:
        model = model.to(device)
    pipe.send(None)
    while True:
        try:
            number, texts, batch_tokens, truncate_dim = pipe.recv()
        except EOFError:  # the parent is gone
            return
        answer: tuple[int, Any, str | None]
        try:
            answer = (number, model.encode(texts, batch_tokens=batch_tokens, truncate_dim=truncate_dim), None)
        except Exception as error:
            answer = (number, None, f"{type(error).__name__}: {first_line(error)}")
        pipe.send(answer)
