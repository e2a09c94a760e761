import pytest
import torch

from gecko_core import devices
from gecko_core.devices import as_dtype, checked_device, compute_dtype, weights_dtype
from gecko_core.errors import ConfigError

CUDA = torch.device("cuda", 0)
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capability", "compute", "weights"),
    [
        ((7, 0), torch.float32, torch.float16),  # V100
        ((7, 5), torch.float32, torch.float16),  # T4, where torch.cuda.is_bf16_supported() is true by emulation
        ((8, 0), torch.bfloat16, torch.bfloat16),  # A100
        ((9, 0), torch.bfloat16, torch.bfloat16),  # H100
    ],
)
def test_cuda(monkeypatch, capability, compute, weights):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    assert compute_dtype(CUDA) == compute
    assert weights_dtype(CUDA) == weights


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512_bf16", "compute", "weights"),
    [
        ("x86_64", True, True, torch.bfloat16, torch.bfloat16),
        ("x86_64", True, False, torch.float32, torch.bfloat16),  # oneDNN emulates it: half the memory, no gain in speed
        ("x86_64", False, False, torch.float32, torch.float32),
        ("aarch64", True, False, torch.bfloat16, torch.bfloat16),
        ("aarch64", False, False, torch.float32, torch.float32),
    ],
)
def test_cpu(monkeypatch, machine, onednn, avx512_bf16, compute, weights):
    monkeypatch.setattr(devices, "_onednn_takes_bf16", lambda: onednn)
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert compute_dtype(CPU) == compute
    assert weights_dtype(CPU) == weights


def test_other_devices_compute_in_fp32():
    assert compute_dtype(torch.device("mps")) == torch.float32


def test_dtypes_have_names():
    assert as_dtype(None) == torch.float32
    assert as_dtype("bf16") == as_dtype(torch.bfloat16) == torch.bfloat16
    with pytest.raises(ConfigError, match=r"dtype must be float32, bfloat16 or float16 \(.*int8\), not 'int8'"):
        as_dtype("int8")


def test_a_device_must_be_here():
    assert checked_device("cpu") == CPU
    with pytest.raises(ConfigError, match="'gpu7' is not a device"):
        checked_device("gpu7")
    for wrong in (True, 1.5, ["cpu"]):
        with pytest.raises(ConfigError, match=r"is not a device; use 'cpu', 'cuda:0'"):
            checked_device(wrong)
