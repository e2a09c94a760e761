"""A new loss term and a new training source, added as a newcomer would: a file each, and its registration."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gecko_train

TERM = '''
"""Vectors of length one."""

from torch import Tensor

from gecko_train.loss.base import LossBatch, Needs, TermConfig


class UnitLengthConfig(TermConfig):
    """Mean squared distance of the queries' lengths from one."""

    power: float = 2.0

    def term(self) -> "UnitLength":
        return UnitLength(self.power)


class UnitLength:
    needs = Needs()

    def __init__(self, power: float):
        self.power = power

    def __call__(self, batch: LossBatch) -> tuple[Tensor, dict[str, Tensor]]:
        lengths = batch.queries.norm(dim=-1)
        return (lengths - 1).abs().pow(self.power).mean(), {"mean_length": lengths.mean()}
'''

SOURCE = '''
"""Source `lines`: a text file whose lines hold a query and a passage with a tab between them."""

from gecko_core.io import find_data, read_lines
from gecko_train.data.rows import Document, TrainingRow
from gecko_train.data.sources.base import Source


class TabbedLines(Source):
    def rows(self, config, context):
        for _, line in read_lines(find_data(config.path)):
            query, passage = line.split("\\t")
            yield TrainingRow(config.task or "search result", query, Document(passage))
'''


def insert(path: Path, after: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(after) == 1
    path.write_text(text.replace(after, f"{after}{line}\n"), encoding="utf-8")


@pytest.mark.long
def test_a_term_and_a_source_take_one_file_and_one_registration_each(tiny_backbone, tmp_path):
    package = tmp_path / "gecko_train"
    shutil.copytree(Path(gecko_train.__file__).parent, package)
    (package / "loss" / "unit_length.py").write_text(TERM, encoding="utf-8")
    objective = package / "loss" / "objective.py"
    insert(objective, "import SpreadOutConfig\n", "from gecko_train.loss.unit_length import UnitLengthConfig")
    insert(
        objective,
        "(default_factory=SpreadOutConfig)\n",
        "    unit_length: UnitLengthConfig = Field(default_factory=UnitLengthConfig)",
    )
    (package / "data" / "sources" / "tabbed_lines.py").write_text(SOURCE, encoding="utf-8")
    registry = package / "data" / "sources" / "registry.py"
    insert(registry, "import TitleBody\n", "from gecko_train.data.sources.tabbed_lines import TabbedLines")
    insert(registry, '    "beir": Beir(),\n', '    "lines": TabbedLines(),')

    (tmp_path / "pairs.txt").write_text("".join(f"bank {n}\tdort {n} lims\n" for n in range(20)), encoding="utf-8")
    recipe = {
        "student": {"model": str(tiny_backbone), "backbone": True, "dims": [32, 16]},
        "prefinetune": {
            "sets": [{"source": "lines", "path": str(tmp_path / "pairs.txt")}],
            "objective": {"hard_negatives": 0, "unit_length": {"weight": 0.5, "power": 1}},
            "trainer": {"batch_size": 8, "max_steps": 2, "precision": "fp32"},
        },
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "gecko_train", "prefinetune", "recipe.yaml", "--out", "run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "run" / "prefinetune" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    assert [step["set"] for step in steps] == ["pairs", "pairs"]
    for step in steps:
        assert abs(step["loss"] - (step["contrastive"] + 0.5 * step["unit_length"])) < 1e-4
        assert step["mean_length"] > 0
