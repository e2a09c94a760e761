import os
import platform
import subprocess
import sys

import pytest

# Page faults of allocations that malloc would give back to the system each time.
CODE = """
import resource
import torch
from gecko_core.encode.memory import keep_freed_memory
done = keep_freed_memory()
def layers(times):
    for _ in range(times):
        [torch.empty(6 * 2**20).fill_(1) for _ in range(5)]
layers(2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
layers(5)
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(**environment):
    bare = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_", "GECKO_COMP"))}
    ran = subprocess.run(
        [sys.executable, "-c", CODE], env=bare | environment, capture_output=True, text=True, timeout=120, check=True
    )
    done, faults = ran.stdout.split()
    return done == "True", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_freed_memory_is_used_again():
    done, faults = run()
    assert done
    assert faults < 15_000  # 25 times 24 MB are 150,000 pages of 4 kB
    # How many there are otherwise is up to what lies on top of the heap by chance, 6,000 to 150,000.
    assert not run(GECKO_COMPUTE="torch")[0]


def test_what_the_environment_says_stays():
    assert not run(MALLOC_TRIM_THRESHOLD_="1000000")[0]
    assert not run(GLIBC_TUNABLES="glibc.malloc.check=0")[0]
