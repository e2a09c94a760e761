"""Which of several ways of computing is the fastest on this CPU: measured at first use, in some tens of milliseconds.

The answer is kept by processor, number of threads and version of PyTorch in ``~/.cache/gecko`` (or
``$XDG_CACHE_HOME/gecko``), so that all processes of a machine compute alike: ways differ in the last digits. For the
same reason another way than the usual one must be clearly faster to be taken.

``GECKO_COMPUTE`` is "auto"; "torch" leaves everything to PyTorch, "explain" is "auto" and prints what was measured.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, PositiveFloat, model_validator
from torch import Tensor
from torch.nn import functional

from gecko_core.devices import has_fast_bf16
from gecko_core.encode.attention import two_products
from gecko_core.encode.products import OneDnnProduct, onednn_has_products
from gecko_core.errors import ConfigError, DataError, GeckoError
from gecko_core.io import cache_folder, read_json, write_json

CHOICES = ("auto", "torch", "explain")
#: The usual ways: most keys for which attention is two products, by dtype.
USUAL = {"float32": 128, "bfloat16": 1024}
# Another way must take less than this share of the usual one's time.
CLEARLY = 0.9
_LENGTHS = (32, 128, 256, 512)
_TOKENS = 1024
_ROUNDS = 4
# On a busy machine there are more, until the two shortest times of each way agree, or this many ms are spent.
_AGREE = 1.05
_MOST_MS = 200.0
_FORMAT = 2
_MOST_BYTES = 65_536
_LEFT_SECONDS = 3600


class AttentionTimes(BaseModel):
    """Milliseconds of attention, as they are kept on disk.

    Attributes:
        attention: by dtype and length, of the fused kernel and of two products.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    attention: dict[str, dict[int, tuple[PositiveFloat, PositiveFloat]]]

    @model_validator(mode="after")
    def _of_attention(self) -> AttentionTimes:
        if "float32" not in self.attention or not USUAL.keys() >= self.attention.keys():
            raise ValueError("attention in other dtypes than those that are measured")
        if any(sorted(times) != list(_LENGTHS) for times in self.attention.values()):
            raise ValueError("attention at other lengths than those that are measured")
        return self


class Measured(AttentionTimes):
    """Milliseconds of each way without gradients.

    Attributes:
        products: of an fp32 product by PyTorch, oneDNN, and oneDNN with a weight made ready.
    """

    products: dict[str, PositiveFloat]

    @model_validator(mode="after")
    def _of_products(self) -> Measured:
        known = {"PyTorch", "oneDNN", "oneDNN, prepared"}
        if "PyTorch" not in self.products or not known.issuperset(self.products):
            raise ValueError("products of other ways than those that are measured")
        return self


Times = TypeVar("Times", bound=AttentionTimes)


@dataclass(frozen=True)
class Choices:
    """What was found to be fastest.

    Attributes:
        onednn: fp32 products go to oneDNN instead of to what PyTorch would take.
        prepared: those of layers without gradients, too, with weights made ready.
        two_products: most keys for which attention is two products, by dtype.
    """

    onednn: bool
    prepared: bool
    two_products: dict[str, int]


def compute_choice() -> str:
    """Return what GECKO_COMPUTE says, one of ``CHOICES``.

    Raises:
        ConfigError: it says something else.
    """
    choice = os.environ.get("GECKO_COMPUTE", "auto") or "auto"
    if choice not in CHOICES:
        raise ConfigError(f"GECKO_COMPUTE must be {', '.join(CHOICES[:-1])} or {CHOICES[-1]}, not {choice!r}")
    return choice


def onednn_is_faster() -> bool:
    """Whether fp32 products belong to oneDNN."""
    return choices().onednn


def two_products_are_faster(dtype: torch.dtype, keys: int, *, gradients: bool = False) -> bool:
    """Whether :func:`gecko_core.encode.two_products` beats PyTorch's fused kernel for this many keys per text.

    Args:
        dtype: of queries, keys and values.
        keys: of a text.
        gradients: whether a backward pass follows, in which the fused kernel is slow in bf16.
    """
    most = _training(torch.get_num_threads()) if gradients else choices().two_products
    return keys <= most.get(_name(dtype), 0)


def choices() -> Choices:
    """Return the ways for this process and its present number of threads."""
    return _choices(torch.get_num_threads())


@lru_cache
def _choices(threads: int) -> Choices:
    found, how = _found(_path(threads), Measured, measure)
    chosen = choose(found)
    if compute_choice() == "explain":
        print(explained(found, chosen, threads, how), file=sys.stderr)
    return chosen


@lru_cache
def _training(threads: int) -> dict[str, int]:
    """Most keys for which attention with its gradients is two products, by dtype."""
    found, how = _found(_path(threads, "training-"), AttentionTimes, measure_training)
    chosen = {name: _most_keys(name, of) for name, of in found.attention.items()}
    if compute_choice() == "explain":
        lines = [f"compute, with gradients ({how})", *_attention_lines(found, chosen)]
        print("\n".join(lines), file=sys.stderr)
    return chosen


def _found(path: Path | None, kind: type[Times], measure: Callable[[], Times]) -> tuple[Times, str]:
    """What was measured, now or before, and where from."""
    found = _read(path, kind)
    if found is not None:
        return found, f"measured before, {path}"
    began = time.perf_counter()
    found = measure()
    how = f"measured now, in {1000 * (time.perf_counter() - began):.0f} ms"
    return _keep(path, found), f"{how}, {path or 'not kept'}"


def choose(measured: Measured) -> Choices:
    """Choose by the milliseconds; see ``CLEARLY``."""
    of = measured.products
    usual = "oneDNN" if "oneDNN" in of and _amd_with_avx512() else "PyTorch"
    other = {"oneDNN": "PyTorch", "PyTorch": "oneDNN"}[usual]
    onednn = (other if of.get(other, float("inf")) < CLEARLY * of[usual] else usual) == "oneDNN"
    # Made ready, a weight also brings fused activations, which are not measured here.
    prepared = of.get("oneDNN, prepared", float("inf")) < of["PyTorch"] / CLEARLY
    return Choices(onednn, prepared, {name: _most_keys(name, of) for name, of in measured.attention.items()})


def _most_keys(dtype: str, times: dict[int, tuple[float, float]]) -> int:
    most, lengths = 0, sorted(times)
    for length, following in zip(lengths, [*lengths[1:], 3 * lengths[-1]], strict=True):
        fused, products = times[length]
        usual = length <= USUAL[dtype]
        if not (products < fused / CLEARLY if usual else products < CLEARLY * fused):
            break
        most = (length + following) // 2
    return most


def measure() -> Measured:
    """Time the ways on random numbers, in the form of a small embedder's layers."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        return Measured(products=_product_times(normal), attention=_all_attention_times(normal))


def measure_training() -> AttentionTimes:
    """Time attention with its gradients."""
    normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        return AttentionTimes(attention=_all_attention_times(normal))


def _all_attention_times(normal: Callable[..., Tensor]) -> dict[str, dict[int, tuple[float, float]]]:
    """With gradients where they are enabled, by dtype and length."""
    dtypes = [torch.float32, *([torch.bfloat16] if has_fast_bf16(torch.device("cpu")) else [])]
    return {_name(dtype): {length: _attention_times(normal, length, dtype) for length in _LENGTHS} for dtype in dtypes}


def _product_times(normal: Callable[..., Tensor]) -> dict[str, float]:
    x, weight, bias = normal(_TOKENS, 384), normal(1536, 384), normal(1536)
    ways: dict[str, Callable[[], object]] = {"PyTorch": lambda: functional.linear(x, weight, bias)}
    if onednn_has_products(torch.float32):
        ready = OneDnnProduct(weight, bias)
        ways["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        ways["oneDNN, prepared"] = lambda: ready(x)
    return dict(zip(ways, _milliseconds(*ways.values()), strict=True))


def _attention_times(normal: Callable[..., Tensor], length: int, dtype: torch.dtype) -> tuple[float, float]:
    texts = normal(_TOKENS // length, length, 3, 12, 32).to(dtype)
    qkv = texts.requires_grad_(torch.is_grad_enabled()).permute(2, 0, 3, 1, 4)

    def run(attend: Callable[..., Tensor]) -> None:
        attended = attend(qkv[0], qkv[1], qkv[2])
        if attended.requires_grad:
            torch.autograd.grad(attended, texts, torch.ones_like(attended))

    fused, products = _milliseconds(lambda: run(functional.scaled_dot_product_attention), lambda: run(two_products))
    return fused, products


def _milliseconds(*ways: Callable[[], object]) -> list[float]:
    """The shortest time of each, in turn, after one call that does not count."""
    for way in ways:
        way()
    times: list[list[float]] = [[] for _ in ways]
    while True:
        for way, taken in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            taken.append(1000 * (time.perf_counter() - began))
        agree = all(sorted(taken)[:2][-1] < _AGREE * min(taken) for taken in times)
        if len(times[0]) >= _ROUNDS and (agree or sum(map(sum, times)) > _MOST_MS):
            return [min(taken) for taken in times]


def explained(measured: Measured, chosen: Choices, threads: int, how: str) -> str:
    """Return the table of GECKO_COMPUTE=explain."""
    lines = [f"compute: {processor()}, {threads} threads, torch {torch.__version__} ({how})"]
    times = ", ".join(f"{way} {ms:.2f} ms" for way, ms in measured.products.items())
    plain, ready = ("oneDNN" if on else "PyTorch" for on in (chosen.onednn, chosen.prepared))
    lines.append(f"  fp32 products: {times}; taken: {plain}, without gradients {ready}")
    return "\n".join([*lines, *_attention_lines(measured, chosen.two_products)])


def _attention_lines(measured: AttentionTimes, chosen: dict[str, int]) -> Iterator[str]:
    for name, by_length in measured.attention.items():
        times = ", ".join(f"{length}: {fused:.2f} / {two:.2f} ms" for length, (fused, two) in by_length.items())
        taken = f"two products up to {chosen[name]} keys" if chosen[name] else "fused"
        yield f"  attention in {name} by length, fused / two products: {times}; taken: {taken}"


def processor() -> str:
    """Return the processor's name as the system gives it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _amd_with_avx512() -> bool:
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") and _cpuinfo("vendor_id") == "AuthenticAMD"


def _path(threads: int, what_for: str = "") -> Path | None:
    what = [_FORMAT, processor(), _cpuinfo("flags"), torch.__version__, threads, os.environ.get("ONEDNN_MAX_CPU_ISA")]
    name = f"compute-{what_for}{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.json"
    try:
        return cache_folder("gecko") / name
    except DataError:  # no home
        return None


def _read(path: Path | None, kind: type[Times]) -> Times | None:
    try:
        if path is None or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        return kind.model_validate(read_json(path))
    except (GeckoError, OSError, ValueError):  # none yet, or damaged: to be measured again
        return None


def _keep(path: Path | None, measured: Times) -> Times:
    """Keep it for the processes to come; of two that measure at once, both take what the first one kept."""
    if path is None:
        return measured
    mine = path.with_name(f"{path.stem}-{os.getpid()}.json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f"{path.stem}-*.json"):  # by processes that were killed here
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                left.unlink(missing_ok=True)
        write_json(mine, measured.model_dump())
        try:
            os.link(mine, path)
        except FileExistsError:
            if (first := _read(path, type(measured))) is not None:
                return first
            path.unlink()  # damaged: the next process measures again
        finally:
            mine.unlink(missing_ok=True)
    except (GeckoError, OSError):  # nowhere to keep it
        pass
    return measured


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
