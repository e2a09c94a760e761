"""The engine of one machine: parts in this process, several at a time where servers do the work."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Any

from gecko_fret.config import FretConfig
from gecko_fret.llm import SERVED
from gecko_fret.llm.lanes import lane
from gecko_fret.steps import PartStep

if TYPE_CHECKING:
    from gecko_fret.build.run import Build

#: Parts in the making where servers are waited for. A part ends with its slowest request, and one that was asked again
#: after a pause is slow; the requests of the next parts keep the server busy meanwhile. A kill loses that many parts.
LANES = 4


def run_local(build: Build, step: PartStep[Any, Any], missing: list[int]) -> None:
    """Make the missing parts of a step, in order."""
    if len(missing) > 1 and step.metered and waits_for_servers(build.context.config):
        _side_by_side(build, step, missing)
        return
    for number in missing:
        began = time.monotonic()
        units = step.run_part(build.context, number)
        build.record(step, units, time.monotonic() - began)


def waits_for_servers(config: FretConfig) -> bool:
    """Whether the LLMs are all behind servers; with a budget, a part is finished before the next one spends of it."""
    llms = (config.llm, *config.writers)
    return all(llm.backend in SERVED and not (llm.budget_tokens or llm.budget_usd) for llm in llms)


def _side_by_side(build: Build, step: PartStep[Any, Any], missing: list[int]) -> None:
    turn, rest = threading.Lock(), iter(missing)
    running: set[Future[int]] = set()
    began = time.monotonic()

    def make(number: int) -> int:
        with lane(turn):
            return step.run_part(build.context, number)

    with ThreadPoolExecutor(LANES, thread_name_prefix="gecko-fret-part") as pool:
        try:
            while True:
                running |= {pool.submit(make, number) for number in islice(rest, LANES - len(running))}
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for part in done:
                    units, now = part.result(), time.monotonic()
                    build.record(step, units, now - began)
                    began = now
        except KeyboardInterrupt:  # after any other error the parts in the making are finished: they cost something
            build.context.models.interrupt()
            raise
