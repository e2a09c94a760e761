"""Telling model files apart without reading gigabytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt"}


def files_fingerprint(folder: Path, gguf_file: str | None = None) -> str:
    """sha256 over names, sizes and the first and last MiB of the weight files; empty when there are none."""
    weights = [folder / gguf_file] if gguf_file else sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES)
    digest = hashlib.sha256()
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
            file.seek(max(0, size - 2**20))
            digest.update(file.read(2**20))
    return digest.hexdigest()[:32] if weights else ""
