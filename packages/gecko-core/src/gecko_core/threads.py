"""How many threads compute on a CPU, and how they wait for each other."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that torch computes on in this process: as many as it has threads, at most those that the process may use.

    Where the system does not say which cores a process may use, all count.
    """
    import torch

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), allowed))


def choose_waiting() -> None:
    """Choose how long threads spin while they wait for each other; commands call it before torch is imported.

    OpenMP reads the choice when torch is imported. Spinning keeps the cores from other processes: on two cores shared
    with one other process, training was 2.4 times faster without it (PASSIVE); on a quiet machine it was 1.2 times
    faster with 10,000 rounds (docs/log.md). What the environment says already stays.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        return
    busy = not hasattr(os, "getloadavg") or os.getloadavg()[0] > 0.25 * (os.cpu_count() or 1)
    name, value = ("OMP_WAIT_POLICY", "PASSIVE") if busy else ("GOMP_SPINCOUNT", "10000")
    os.environ[name] = value
