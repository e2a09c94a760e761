"""Contextual calibration of label judges: what an LLM says of a passage whatever the query is, taken off.

A small LLM likes some labels, and some passages, for reasons of its own. Asked about a passage with an empty query it
shows them; dividing by that answer takes them off (Zhao et al. 2021, "Calibrate Before Use", there per task, here per
passage). The empty query is asked once per passage of a part, beside the passage's pairs, so that what a part holds
does not depend on what the process did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gecko_fret.config import FretConfig
from gecko_fret.judges.base import EMPTY_QUERY, Batch
from gecko_fret.llm.protocol import ScoreRequest

_LEAST = 1e-12  # a probability below it is rounding of the logits


def label_logs(
    batch: Batch, request: Callable[[str, str], ScoreRequest], labels: Sequence[str], *, calibrate: bool
) -> list[list[float]]:
    """Ask for the labels of every pair.

    Args:
        batch: the pairs.
        request: from a passage and a query, as prompts show them, to a request.
        labels: what the LLM would write for each label.
        calibrate: whether to take off what an empty query gives.

    Returns:
        For every pair the log-probability of each label, up to a constant of the pair where calibrated.
    """
    requests = [request(pair.passage, pair.query) for pair in batch.prompted]
    empty = [request(passage, EMPTY_QUERY) for passage in batch.passages] if calibrate else []
    judged = [scored.labels for scored in batch.score([*requests, *empty], labels)]
    logs = [_logs(row) for row in judged[: len(requests)]]
    return take_off(batch, logs, [_logs(row) for row in judged[len(requests) :]]) if calibrate else logs


def joint_label_logs(batch: Batch) -> list[list[float]]:
    """The same where one pass gives likelihood and label (``Batch.joint``)."""
    logs = [_logs(row.labels) for row in batch.joint.pairs]
    return take_off(batch, logs, [_logs(row.labels) for row in batch.joint.empty]) if batch.config.calibrate else logs


def take_off(batch: Batch, logs: Sequence[Sequence[float]], empty: Sequence[Sequence[float]]) -> list[list[float]]:
    """Less what the empty query gave.

    Args:
        batch: the pairs.
        logs: of every pair.
        empty: of every passage, in the order of ``batch.passages``.
    """
    of_passage = dict(zip(batch.passages, empty, strict=True))
    return [
        [value - base for value, base in zip(row, of_passage[pair.passage], strict=True)]
        for row, pair in zip(logs, batch.prompted, strict=True)
    ]


def calibration_fingerprint(config: FretConfig) -> list[str]:
    """What decides calibrated judgements beyond others; nothing where there is no calibration."""
    return ["calibrated", EMPTY_QUERY] if config.score.calibrate else []


def _logs(probabilities: Sequence[float]) -> list[float]:
    return [math.log(max(probability, _LEAST)) for probability in probabilities]
