import io

import numpy as np
from rich.console import Console

from gecko_eval.report.compare import TaskComparison, paired_bootstrap
from gecko_eval.report.console import comparison_table


def test_one_item_has_no_interval_on_the_screen():
    compared = paired_bootstrap(np.array([0.63]), np.array([0.387]))
    row = TaskComparison("of one", compared, compared.mean_a, compared.mean_b, "queries", p_holm=1.0)
    shown = io.StringIO()
    Console(file=shown, width=200).print(comparison_table([row], "new", "old"))
    assert "none (one item)" in shown.getvalue()
    assert "+24.30" in shown.getvalue()
    assert "inf" not in shown.getvalue()
