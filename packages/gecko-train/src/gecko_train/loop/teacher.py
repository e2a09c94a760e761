"""The teacher's vectors in the loop: those of all sets before the first step, and those of each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gecko_train.data.teacher import TeacherVectors, teacher_texts
from gecko_train.data.texts import BatchTexts, batch_texts, block_texts, teacher_rows
from gecko_train.loop.batch import PreparedBatch
from gecko_train.loss.objective import Objective


def ask_teacher(
    teacher: TeacherVectors, sets: Sequence[Any], objectives: Sequence[Objective], wait: Callable[[], object]
) -> None:
    """Compute the teacher's vectors of all sets that are not streamed, once.

    Args:
        teacher: keeps the vectors.
        sets: of the mixture.
        objectives: one per set.
        wait: returns when every rank has called it.
    """
    for row_set, objective in zip(sets, objectives, strict=True):
        if objective.config.needs_teacher:
            teacher.add(teacher_texts(row_set, teacher, objective.documents), wait)


def batch_vectors(teacher: TeacherVectors, prepared: PreparedBatch, row_set: Any) -> Tensor:
    """The teacher's vectors of a batch: (b, 1 + M, E) of this rank's rows; (Q + N, E) of a whole block.

    Args:
        teacher: has the vectors, or computes them.
        prepared: this rank's share of the batch.
        row_set: the batch's set.
    """
    if isinstance(prepared.texts, BatchTexts):
        texts = batch_texts(prepared.rows, teacher, prepared.texts.documents.shape[1])
        return teacher_rows(torch.from_numpy(teacher(texts.texts)), texts)
    shared = row_set.documents(prepared.batch.documents)
    block = block_texts(row_set.queries(prepared.batch.indices), shared, teacher)
    vectors = torch.from_numpy(teacher(block.texts))
    return torch.cat([vectors[block.queries], vectors[block.documents]])
