import io
import json

import pytest
from rich.console import Console

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_train.config import parse_recipe
from gecko_train.run.single import run_single


def recipe(backbone, folder, **sets):
    stage = {"sets": [sets], "trainer": {"batch_size": 4, "max_steps": 2, "precision": "fp32"}}
    student = {"model": str(backbone), "backbone": True, "dims": [32, 16], "max_seq_length": 64}
    return parse_recipe({"output": str(folder), "student": student, "finetune": stage})


def test_one_stage_leaves_a_model_and_is_not_run_twice(tiny_backbone, tmp_path):
    lines = [{"query": f"bank {n}", "positive": f"bart {n}", "negative": f"dort {n}"} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = recipe(tiny_backbone, tmp_path / "run", source="triplets", path=str(tmp_path / "rows.jsonl"))
    run_single(given, "finetune", Console(file=io.StringIO()))
    assert Gecko.from_pretrained(tmp_path / "run" / "model").dims == (32, 16)
    record = json.loads((tmp_path / "run" / "model" / "gecko.json").read_text())
    assert "finetune" in json.dumps(record)
    before = (tmp_path / "run" / "finetune" / "metrics.jsonl").stat().st_mtime_ns
    screen = io.StringIO()
    run_single(given, "finetune", Console(file=screen, width=200))
    assert str(tmp_path / "run" / "model") in screen.getvalue()
    assert (tmp_path / "run" / "finetune" / "metrics.jsonl").stat().st_mtime_ns == before


def test_fret_needs_its_folder(tiny_backbone, tmp_path):
    with pytest.raises(ConfigError, match="source 'fret' needs a path"):
        run_single(recipe(tiny_backbone, tmp_path / "run", source="fret"), "finetune")
    assert not (tmp_path / "run").exists()
