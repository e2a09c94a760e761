import queue
import threading

import pytest

from gecko_core.encode.pool import EncoderPool
from gecko_core.errors import BackendError, ConfigError


class Threads:
    """Stands in for multiprocessing's context: the same workers, as threads, without two imports of torch."""

    Queue = queue.Queue

    class Process(threading.Thread):
        exitcode = None

        def terminate(self):
            self._args[3].put(None)  # the worker's loop cannot unpack this and ends

        def run(self):
            try:
                super().run()
            except TypeError:
                self.exitcode = -15


@pytest.fixture
def as_threads(monkeypatch):
    monkeypatch.setattr("gecko_core.encode.pool.mp.get_context", lambda method: Threads)
    monkeypatch.setattr(
        "gecko_core.encode.pool.torch.set_num_threads", lambda count: None
    )  # would stay for later tests


def test_many_jobs_come_back_in_order(tiny, sentences, monkeypatch, as_threads):
    monkeypatch.setattr("gecko_core.encode.pool._CHARACTERS", 4_000)
    with EncoderPool(tiny, ["cpu"]) as pool:
        assert abs(pool.encode(sentences) - tiny.encode(sentences)).max() < 1e-6
        assert abs(pool.encode(sentences, truncate_dim=8) - tiny.encode(sentences, truncate_dim=8)).max() < 1e-6
        assert pool.encode(sentences, precision="binary").shape == (100, 4)
        assert pool.encode([]).shape == (0, 32)
        with pytest.raises(BackendError, match="an encoder failed: ConfigError: batch_tokens"):
            pool.encode(["a gecko"], batch_tokens=-1)
    assert pool._workers == []


def test_devices_option_of_encode(tiny, sentences, as_threads):
    assert abs(tiny.encode(sentences, devices=["cpu"]) - tiny.encode(sentences)).max() < 1e-6


@pytest.mark.slow
def test_two_processes_give_the_vectors_of_one(tiny, sentences, monkeypatch):
    from gecko_core.encode import pool as module

    monkeypatch.setattr(module, "_CHARACTERS", 2_000)  # many jobs
    with EncoderPool(tiny, ["cpu", "cpu"]) as pool:
        found = pool.encode(sentences)
        assert abs(found - tiny.encode(sentences)).max() < 1e-6
        assert abs(pool.encode(sentences, truncate_dim=8) - tiny.encode(sentences, truncate_dim=8)).max() < 1e-6
        assert pool.encode([]).shape == (0, 32)
        with pytest.raises(BackendError, match="an encoder failed: ConfigError: batch_tokens"):
            pool.encode(["a gecko"], batch_tokens=-1)
        for worker in pool._workers:
            worker.kill()
        with pytest.raises(BackendError, match="the encoder on cpu ended"):
            pool.encode(["a gecko"])
    assert pool._workers == []


def test_bad_devices(tiny):
    with pytest.raises(ConfigError, match="devices is empty"):
        EncoderPool(tiny, [])
    with pytest.raises(ConfigError, match="'gpu7' is not a device"):
        EncoderPool(tiny, ["gpu7"])
    with pytest.raises(ConfigError, match="CUDA devices"):
        EncoderPool(tiny, ["cuda:99"])
    with pytest.raises(ConfigError, match="not running"):
        EncoderPool(tiny, ["cpu"]).encode(["a"])
