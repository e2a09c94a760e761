import numpy as np
import pytest

from gecko_eval.report.compare import TaskComparison, paired_bootstrap
from gecko_eval.report.figures import Bar, _colour, plot_comparison, plot_scores


def test_comparison_figure(tmp_path):
    found = paired_bootstrap(np.ones(5), np.zeros(5), samples=100)
    rows = [TaskComparison("kept", found, 1.0, 0.0, "5 queries"), TaskComparison("none", None, 0.5, 0.6, "no interval")]
    plot_comparison(rows, ("a", "b"), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("bars", [[], [Bar("a @64", 0, 0.0, {"x": 50.0}), Bar("a @16", 0, 0.5, {"x": 40.0, "y": 1.0})]])
def test_scores_figure_with_gaps_and_without_anything(tmp_path, bars):
    plot_scores({"STS": ["x"], "Retrieval": ["y"]} if bars else {}, bars, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_dims_of_a_model_are_paler_shades_of_one_colour():
    full, half = _colour(3, 0.0), _colour(3, 0.5)
    assert all(a <= b for a, b in zip(full, half, strict=True))
    assert full != half
    assert _colour(0, 0.0) != _colour(1, 0.0)
