"""Whether there is anything to learn: from the sets before training, and from the first steps in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gecko_core.errors import DataError
from gecko_train.data.mixture import Mixture
from gecko_train.loss.objective import Objective

#: Steps without any gradient after which training stops.
FIRST_STEPS = 10


def check_sets(sets: Sequence[Any], objectives: Sequence[Objective]) -> list[str]:
    """Check that training can teach something: that a set has what some term needs, and each term with scores a set.

    The contrastive loss, which is on by default, may have nothing to learn where other terms have.

    Args:
        sets: of the mixture; streamed ones, which are not read beforehand, count as having everything.
        objectives: one per set.

    Returns:
        A note for each set that teaches nothing, beside others that do.

    Raises:
        DataError: no set teaches anything, no set has the scores that a term reads, or a set would teach what is wrong.
    """
    for row_set, objective in zip(sets, objectives, strict=True):
        refusal = objective.refusal(row_set) if hasattr(row_set, "has_labels") else None
        if refusal is not None:
            raise DataError(f"set {row_set.name}: {refusal}")
    lacking = [
        objective.lacks(row_set) if hasattr(row_set, "has_answers") else {}
        for row_set, objective in zip(sets, objectives, strict=True)
    ]
    useless = [set(objective.names) <= set(lack) for objective, lack in zip(objectives, lacking, strict=True)]
    lines = [
        f"set {row_set.name}: {next(iter(lack.values()))}"
        for row_set, lack, is_useless in zip(sets, lacking, useless, strict=True)
        if is_useless
    ]
    if all(useless):
        raise DataError(lines[0] + (" (no other set teaches anything either)" if len(sets) > 1 else ""))
    for name in dict.fromkeys(name for objective in objectives for name in objective.names):
        on = [place for place, objective in enumerate(objectives) if name in objective.names]
        if name != "contrastive" and all(name in lacking[place] for place in on):
            raise DataError(f"set {sets[on[0]].name}: {lacking[on[0]][name]}")
    return lines


def small_batch_notes(mixture: Mixture) -> list[str]:
    """A note for each set of which no batch can have ``batch_size`` rows."""
    lines = []
    for name, rows, count in mixture.small_batches():
        alone = "; a batch of one row has no other rows' passages as negatives" if rows == 1 else ""
        lines.append(
            f"set {name}: a batch has at most {rows} of its {count} rows, not {mixture.batch_size}: no two rows of a "
            f"batch may share a text (a query, a passage, or one's query and the other's passage){alone}"
        )
    return lines


class FirstSteps:
    """Watches whether the first steps of a run have a gradient.

    What sets hold does not say all: each batch alone may leave a row nothing to be compared with, by labels, margins
    or what a stream gives.

    Args:
        total: steps of the run.

    Attributes:
        idle: whether no step so far had any gradient; a run that goes on from a checkpoint had.
    """

    def __init__(self, total: int):
        self._least = min(FIRST_STEPS, total)
        self.idle = False

    def step(self, done: int, loss: float, norm: float, name: str) -> None:
        """Look at a step.

        Args:
            done: steps so far, this one included.
            loss: of the step.
            norm: of its gradient.
            name: of its set.

        Raises:
            DataError: as many as ``FIRST_STEPS``, or all there are, had no gradient.
        """
        self.idle = norm == 0 and (self.idle or done == 1)
        if self.idle and done >= self._least:
            raise DataError(
                f"step {done}: no step so far had a gradient (set {name}, loss {loss:.3f}), so nothing is learned: no "
                "row of these batches has a negative or a target to be compared with; give the set other rows, hard "
                "negatives or scores"
            )
