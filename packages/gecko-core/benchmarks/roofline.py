"""How much of a CPU's matrix products encoding reaches: FLOP/s of the whole model over those of its largest product.

    uv run python packages/gecko-core/benchmarks/roofline.py [--write [NAME]] [--compute torch]

The peak is the fastest of PyTorch's and oneDNN's product of 2,048 tokens with the model's largest weight, measured in
the dtype of the products before every length. FLOPs are those of the linear layers and of attention, two for a
multiplication and addition; padding, softmax, LayerNorm and the tokenizer count as none. The second table is of
another run under PyTorch's profiler: the time that operations spend themselves. `--compute torch` shows the modules as
PyTorch runs them. `--write` writes results/roofline.md, or another page of that name for another machine.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

LENGTHS = (16, 64, 170, 256, 512)
TOKENS = 8_192
RESULTS = Path(__file__).parent / "results"
#: Kinds of operations by what their names contain, the first that fits.
KINDS = {
    "products of the layers": ("aten::mm", "aten::addmm", "linear_pointwise"),
    "attention": ("bmm", "softmax", "scaled_dot_product"),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "optimizer and clipping": ("adam", "vector_norm", "zero_grad"),
    "embeddings": ("embedding",),
    "copies and conversions": ("copy", "fill_", "index_select", "cat", "scatter", "gather", "zero_"),
    "sums": ("aten::add", "aten::sum", "aten::mul"),
}
REST = "all else"


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="all-minilm-l6-v2", help="an encoder of BERT's kind")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--compute", choices=("auto", "torch"), default="auto")
    arguments.add_argument("--write", nargs="?", const="roofline", metavar="NAME")
    options = arguments.parse_args()
    os.environ["GECKO_COMPUTE"] = options.compute
    page = measured(options)
    print(page)
    if options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{options.write}.md").write_text(page + "\n", encoding="utf-8")
    return 0


def measured(options: argparse.Namespace) -> str:
    import torch

    from gecko_core import Gecko
    from gecko_core.encode import compute_dtype
    from gecko_core.encode.probe import processor

    lines = [
        f"# Share of the matrix products' peak: {options.model}",
        "",
        f"{date.today()}; {processor()} ({platform.machine()}), {torch.get_num_threads()} threads of {os.cpu_count()} "
        f"cores; torch {torch.__version__}. `benchmarks/roofline.py --compute {options.compute}`: GFLOP/s of encoding, "
        f"tokens to vectors, and its share of the largest product's, median of {options.rounds} rounds.",
        "",
        "| products | " + " | ".join(f"{length} tokens" for length in LENGTHS) + " |",
        "|---" * (len(LENGTHS) + 1) + "|",
    ]
    shared: dict[str, list[dict[str, float]]] = {}
    dtypes = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if bf16(compute_dtype) else {})
    for name, dtype in dtypes.items():
        model = Gecko.from_pretrained(options.model, device="cpu", dtype="float32" if name == "float32" else None)
        cells = []
        for length in LENGTHS:
            rates = [(peak(model, dtype), encoding(model, length)) for _ in range(options.rounds)]
            share = statistics.median(rate / best for best, rate in rates)
            cells.append(f"{statistics.median(rate for _, rate in rates):.0f} ({100 * share:.0f}%)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        shared[name] = [shares(profiled(model, length)) for length in LENGTHS]
    lines += [
        "",
        "Where the time goes:",
        "",
        "| | " + " | ".join(f"{length} tokens" for length in LENGTHS) + " |",
        "|---" * (len(LENGTHS) + 1) + "|",
    ]
    for name, of in shared.items():
        for kind in (*KINDS, REST):
            if max(one.get(kind, 0.0) for one in of) >= 0.005:
                lines.append(f"| {name}, {kind} | " + " | ".join(f"{one.get(kind, 0.0):.0%}" for one in of) + " |")
    return "\n".join(lines)


def shares(events: Any) -> dict[str, float]:
    """Share of the time that operations spend themselves, by kind."""
    spent: dict[str, float] = {}
    for event in events:
        fits = (kind for kind, names in KINDS.items() if any(name in event.key for name in names))
        kind = next(fits, REST)
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total
    return {kind: value / sum(spent.values()) for kind, value in spent.items()}


def bf16(compute_dtype: Callable[[Any], Any]) -> bool:
    import torch

    return bool(compute_dtype(torch.device("cpu")) == torch.bfloat16)


def peak(model: Any, dtype: Any) -> float:
    """GFLOP/s of the model's largest product."""
    import torch

    from gecko_core.encode.products import OneDnnProduct, TorchProduct, onednn_has_products

    width, inner = sizes(model)[1:]
    x, weight, bias = (torch.randn(*shape).to(dtype) for shape in ((2048, width), (inner, width), (inner,)))
    kinds = [TorchProduct, *([OneDnnProduct] if onednn_has_products(dtype) else [])]
    with torch.inference_mode():
        products = [kind(weight, bias) for kind in kinds]
        best = min(seconds(lambda product=product: product(x)) for product in products for _ in range(4))  # type: ignore[misc]
    return 2 * 2048 * width * inner / best / 1e9


def encoding(model: Any, length: int) -> float:
    """GFLOP/s of texts of a length."""
    layers, width, inner = sizes(model)
    flops = 2 * length * (4 * width**2 + 2 * width * inner) + 4 * length**2 * width
    encode = of_length(model, length)
    encode()
    return max(1, TOKENS // length) * layers * flops / seconds(encode) / 1e9


def profiled(model: Any, length: int) -> Any:
    """The operations of encoding texts of a length, with the time of each."""
    from torch.profiler import ProfilerActivity, profile

    encode = of_length(model, length)
    encode()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        encode()
    return profiler.key_averages()


def of_length(model: Any, length: int) -> Callable[[], None]:
    """A function that encodes some thousand tokens in texts of a length."""
    import torch

    from gecko_core.encode import probed_autocast

    draw = random.Random(0)
    rows = [[draw.randrange(1000, 20000) for _ in range(length)] for _ in range(max(1, TOKENS // length))]
    step = max(1, 2048 // length)

    def encode() -> None:
        with torch.inference_mode(), probed_autocast(model):
            for start in range(0, len(rows), step):
                model(rows=rows[start : start + step])

    return encode


def sizes(model: Any) -> tuple[int, int, int]:
    config = model.backbone.config
    return config.num_hidden_layers, config.hidden_size, config.intermediate_size


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
