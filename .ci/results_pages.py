"""The pages in docs/results are what their experiments make of the numbers beside them.

uv run python .ci/results_pages.py            # fails where one is not
uv run python .ci/results_pages.py --write    # makes it so, with the plots
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "experiments"))

import lab  # noqa: E402

MADE = re.compile(r"\d{4}-\d\d-\d\d; .*?transformers [\d.]*\d(?:, [a-z]+ [\d.]*\d)*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    differ = []
    for path in sorted(lab.RESULTS.glob("*.json")):
        script = importlib.import_module(path.stem.partition("-")[0])
        raw = json.loads(path.read_text(encoding="utf-8"))
        given = argparse.Namespace(**{name: _value(text) for name, text in raw["options"].items()})
        given.name = path.stem
        text = lab.without_folders("\n".join(_called(script.report, given, raw)) + "\n")
        page = path.with_suffix(".md")
        before = page.read_text(encoding="utf-8")
        text = _made_then(text, before)
        if text == before:
            continue
        differ.append(path.stem)
        if options.write:
            page.write_text(text, encoding="utf-8")
            if hasattr(script, "plot"):
                _called(script.plot, given, raw).savefig(path.with_suffix(".png"), dpi=120)
    if differ and not options.write:
        print(f"docs/results: {', '.join(differ)} differ from their numbers; run .ci/results_pages.py --write")
    return int(bool(differ) and not options.write)


def _made_then(text: str, before: str) -> str:
    """Date, machine and versions of the page as it is: some experiments write those of the moment."""
    made = MADE.findall(before)
    return MADE.sub(lambda match: made.pop(0), text) if len(made) == len(MADE.findall(text)) else text


def _value(text: str) -> Any:
    """An option as its experiment has it; a result keeps it as text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _called(function: Any, given: argparse.Namespace, raw: dict[str, Any]) -> Any:
    """Some experiments need nothing but the numbers."""
    return function(given, raw) if len(inspect.signature(function).parameters) == 2 else function(raw)


if __name__ == "__main__":
    sys.exit(main())
