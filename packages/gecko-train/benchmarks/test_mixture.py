"""How long planning takes: pytest packages/gecko-train/benchmarks"""

import numpy as np
import pytest

from gecko_train.data.mixture import Mixture


class Ids:
    """A set of ``rows`` rows over ``passages`` passages, as the plan sees it."""

    def __init__(self, name, rows, passages, seed):
        generator = np.random.default_rng(seed)
        self.name = name
        self.query_ids = generator.permutation(rows)
        self.positive_ids = rows + generator.integers(passages, size=rows)

    def __len__(self):
        return len(self.query_ids)


@pytest.mark.parametrize("rows", [200_000, 2_000_000])
def test_plan_an_epoch_of_two_sets(benchmark, rows):
    sets = [Ids("large", rows * 3 // 4, rows // 4, 0), Ids("small", rows // 4, rows // 4, 1)]

    def plan():
        mixture = Mixture(sets, batch_size=8192, seed=0)
        return sum(len(mixture.batch(0, step).indices) for step in range(mixture.steps_per_epoch))

    planned = benchmark.pedantic(plan, rounds=3, iterations=1)
    benchmark.extra_info["rows_per_second"] = planned / benchmark.stats.stats.median
    assert planned > 0.95 * rows
