"""Writes a GGUF file again with every weight in float32, for a server of llama.cpp that is compared with others.

    uv run python packages/gecko-fret/benchmarks/gguf_in_fp32.py smollm2-f32.gguf [FILE.gguf]

Without a second file: the packaged SmolLM2-135M-Instruct. llama.cpp multiplies quantised weights with activations of 8
bits, which the transformers backend does not: only in float32 do the two compute the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gguf
import numpy as np

from gecko_core.folder import resolve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("source", type=Path, nargs="?", help="default: the packaged SmolLM2-135M-Instruct")
    options = parser.parse_args()
    source = gguf.GGUFReader(options.source or packaged())
    architecture = source.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(options.out, architecture)
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue  # the writer's own
        kind, inner = field.types[0], field.types[-1] if field.types[0] is gguf.GGUFValueType.ARRAY else None
        value = field.contents()
        if field.name == "general.file_type":
            value = int(gguf.LlamaFileType.ALL_F32)
        writer.add_key_value(field.name, value, kind, sub_type=inner)
    for tensor in source.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, weights, raw_dtype=gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def packaged() -> Path:
    found = resolve("smollm2-135m-instruct")
    assert found.path
    assert found.gguf_file
    return found.path / found.gguf_file


if __name__ == "__main__":
    main()
