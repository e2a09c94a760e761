import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection

import pytest
import torch

from gecko_core.encode.pool import EncoderPool, _interrupts_wait
from gecko_core.errors import BackendError, ConfigError


class Threads:
    """Stands in for multiprocessing's context: the same workers, as threads, without two imports of torch."""

    Pipe = staticmethod(multiprocessing.Pipe)

    class Process(threading.Thread):
        exitcode = None

        def __init__(self, target, args, daemon):
            *others, pipe = args
            self.pipe = Connection(os.dup(pipe.fileno()))  # a process has its own end
            self.sentinel, self._open = multiprocessing.Pipe()
            super().__init__(target=target, args=(*others, self.pipe), daemon=daemon)

        def run(self):
            try:
                super().run()
            except OSError:
                self.exitcode = -15
            self.pipe.close()
            self._open.close()

        def terminate(self):
            pass  # its pipe is closed next

        def join(self, timeout=None):
            super().join(min(timeout or 0.01, 0.01))


@pytest.fixture
def as_threads(monkeypatch):
    monkeypatch.setattr("gecko_core.encode.pool.mp.get_context", lambda method: Threads)
    monkeypatch.setattr("gecko_core.encode.pool.signal.signal", lambda *_: None)  # for main threads alone
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


def test_a_worker_that_ends_is_an_error_at_once(tiny, as_threads, monkeypatch):
    def dies(device, threads, pipe):
        pipe.recv()
        pipe.send(None)
        pipe.poll(None)  # it is given a job, and goes

    monkeypatch.setattr("gecko_core.encode.pool._work", dies)
    with (
        EncoderPool(tiny, ["cpu", "cpu"]) as pool,
        pytest.raises(BackendError, match=r"ended \(code None\); try fewer"),
    ):
        pool.encode(["a gecko"] * 3)
    monkeypatch.setattr("gecko_core.encode.pool._work", lambda *_: None)
    with pytest.raises(BackendError, match=r"before it had started.*__main__"), EncoderPool(tiny, ["cpu"]) as pool:
        pool.encode(["a gecko"])
    with pytest.raises(ConfigError, match="not running"):
        pool.encode(["a gecko"])


@pytest.mark.slow
def test_a_script_without_a_main_guard_ends(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "model")
    script = tmp_path / "user.py"
    script.write_text(
        "from gecko_core import Gecko\n"
        f"model = Gecko.from_pretrained({str(tmp_path / 'model')!r}, device='cpu')\n"
        "model.encode([f'text {i}' for i in range(50)], devices=['cpu', 'cpu'])\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "before it had started; in a script, put what encodes below" in done.stderr.splitlines()[-1]


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
            worker.process.kill()
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


def test_devices_are_a_list_of_this_machines(tiny):
    assert EncoderPool(tiny, iter(["cpu", torch.device("cpu"), None])).devices[:2] == ["cpu", "cpu"]
    for wrong in (5, True, "cpu", b"cpu"):
        with pytest.raises(ConfigError, match=r"devices must be a list such as \['cuda:0', 'cuda:1'\]"):
            EncoderPool(tiny, wrong)
    with pytest.raises(ConfigError, match="devices is empty"):
        EncoderPool(tiny, iter([]))
    with pytest.raises(ConfigError, match="True is not a device"):
        EncoderPool(tiny, ["cpu", True])


@pytest.fixture
def interruptible():
    """Ctrl-C is as in a terminal; where a shell has started the tests in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_waits_until_a_worker_is_known():
    with pytest.raises(KeyboardInterrupt), _interrupts_wait():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ValueError, match="another"), _interrupts_wait():
        raise ValueError("another")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="this system has no signal masks")
def test_a_worker_gets_no_interrupt_from_its_first_instruction_on():
    script = (
        "import multiprocessing, signal\n"
        "from gecko_core.encode.pool import _interrupts_wait\n"
        "with _interrupts_wait():\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    process = context.Process(target=signal.raise_signal, args=(signal.SIGINT,))\n"
        "    process.start()\n"
        "process.join(120)\n"
        "print(process.exitcode)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.stderr) == ("0\n", "")
