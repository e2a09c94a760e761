"""Time of planning an epoch of homogeneous batches without repeats: the data side must never hold up a step.

uv run pytest packages/gecko-train/benchmarks
"""

from dataclasses import dataclass

import numpy as np
import pytest

from gecko_train.mixture import Mixture


@dataclass
class Ids:
    """A set as the plan sees it: ids of queries and positives, some of which repeat."""

    name: str
    query_ids: np.ndarray
    positive_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.query_ids)


def some_set(name: str, rows: int) -> Ids:
    generator = np.random.default_rng(rows)
    return Ids(name, generator.integers(0, rows, rows), generator.integers(0, max(1, rows // 3), rows))


@pytest.mark.parametrize("rows", [10_000, 100_000])
def test_planning_an_epoch(benchmark, rows):
    sets = [some_set("large", rows), some_set("small", rows // 2)]
    epoch = iter(range(10**6))

    def plan() -> int:
        mixture = Mixture(sets, batch_size=512)
        return len(mixture.batch(next(epoch), 0).indices)

    assert benchmark(plan) == 512
