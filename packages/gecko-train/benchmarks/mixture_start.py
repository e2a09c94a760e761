"""A mixture of ten million rows: seconds and memory until its first batch is at hand.

    python packages/gecko-train/benchmarks/mixture_start.py --rows 10000000

Writes two memory-mapped sets to a temporary folder (not timed), then opens them in a fresh process, plans an epoch and
reads the first ten batches.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CHUNK = 65_536


def write(path: Path, rows: int, seed: int) -> None:
    import numpy as np
    import pyarrow as pa

    from gecko_train.data.rows import SCHEMA

    generator = np.random.default_rng(seed)
    filler = " ".join(["the body of a passage, about as long as the title of a page"] * 2)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for start in range(0, rows, _CHUNK):
            count = min(_CHUNK, rows - start)
            numbers = np.arange(start, start + count)
            texts = pa.array([f"{number} {filler}" for number in numbers], pa.large_string())
            queries = pa.array([f"what is number {number}" for number in numbers], pa.large_string())
            none = pa.nulls(count, pa.string())
            positive = pa.StructArray.from_arrays([none, texts], fields=list(SCHEMA.field("positive").type))
            empty = pa.array([[]] * count, SCHEMA.field("negatives").type)
            columns = [
                pa.array(["search result"] * count), queries, positive, empty, pa.array(np.zeros(count, dtype=bool)),
                pa.array(numbers + seed * 10**9), pa.array(generator.integers(2**62, size=count)), none,
                pa.nulls(count, SCHEMA.field("scores").type),
            ]  # fmt: skip
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))


def start(paths: list[str], batch_size: int) -> None:
    begun = time.perf_counter()
    from gecko_train.data.mixture import Mixture
    from gecko_train.data.rows import RowSet

    sets = [RowSet.open(path) for path in paths]
    mixture = Mixture(sets, batch_size=batch_size)
    assert len(mixture.fingerprint) == 64
    for step in range(10):
        batch = mixture.at(step)
        rows = sets[batch.set_index].rows(batch.indices)
        assert len(rows) == batch_size
    print(json.dumps({"seconds": time.perf_counter() - begun,
                      "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--folder", default=None, help="where the sets are written for the time of the run")
    parser.add_argument("--open", nargs="*", default=None)
    given = parser.parse_args()
    if given.open:
        start(given.open, given.batch)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        paths = [Path(folder) / "large.arrow", Path(folder) / "small.arrow"]
        write(paths[0], given.rows * 4 // 5, 1)
        write(paths[1], given.rows // 5, 2)
        size = sum(path.stat().st_size for path in paths) / 1e9
        command = [sys.executable, __file__, "--batch", str(given.batch), "--open", *map(str, paths)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    sys.path.insert(0, str(Path(__file__).parent))
    import side_by_side as side

    text = (
        f"| rows | on disk, GB | batch | seconds to the tenth batch | peak memory, GB |\n|---:|---:|---:|---:|---:|\n"
        f"| {given.rows:,} | {size:.2f} | {given.batch} | {found['seconds']:.1f} | {found['peak_gb']:.2f} |\n\n"
        f"Two memory-mapped sets, imports included. {side.machine()}.\n"
    )
    print(text)
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "mixture-start.md").write_text(text)


if __name__ == "__main__":
    main()
