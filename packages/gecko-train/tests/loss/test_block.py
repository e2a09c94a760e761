import math

import pytest
import torch
from torch.nn.functional import normalize

from gecko_train.loss.base import Block
from gecko_train.loss.block import BlockConfig
from gecko_train.loss.objective import Objective, ObjectiveConfig


def reference(queries, documents, targets, temperature, teacher_temperature, dims):
    """KL(teacher || student) of every query over its judged documents, pair by pair in fp64."""
    total = 0.0
    for dim in dims:
        q, d = (normalize(vectors[:, :dim].double(), dim=-1) for vectors in (queries, documents))
        kls = []
        for row, target in zip(q, targets.double(), strict=True):
            judged = [n for n in range(len(d)) if not math.isnan(target[n])]
            if len(judged) < 2:
                continue
            teacher = (target[judged] / teacher_temperature).softmax(0)
            student = (d[judged] @ row / temperature).softmax(0)
            kls.append(float((teacher * (teacher.log() - student.log())).sum()))
        total += sum(kls) / len(kls)
    return total


def block(count=7, shared=11, dim=8, teacher=6, columns=2):
    generator = torch.Generator().manual_seed(0)
    queries, documents = (torch.randn(n, dim, generator=generator) for n in (count, shared))
    targets = 3 * torch.randn(count, shared, generator=generator)
    targets[torch.rand(count, shared, generator=generator) < 0.5] = float("nan")
    targets[2, 1:] = float("nan")  # one judged document is no list
    return queries, Block(
        documents, torch.randint(shared, (count, columns), generator=generator), targets,
        teacher_queries=torch.randn(count, teacher, generator=generator),
        teacher_documents=torch.randn(shared, teacher, generator=generator),
    )  # fmt: skip


def alone(queries, block, dims=(8, 4), **options):
    config = ObjectiveConfig(contrastive_weight=0.0, block=BlockConfig(weight=2.0, **options))
    ids = torch.arange(len(queries)), 100 + block.rows
    answered = torch.zeros(len(queries), dtype=torch.bool)
    return Objective(config, dims)(queries, block.documents[block.rows], *ids, answered=answered, block=block)


@pytest.mark.parametrize(("temperature", "teacher_temperature"), [(0.05, None), (0.02, 0.3), (1.0, 2.0)])
def test_every_query_is_compared_with_every_document_that_was_judged(temperature, teacher_temperature):
    queries, shared = block()
    loss, watched = alone(queries, shared, temperature=temperature, teacher_temperature=teacher_temperature)
    wanted = reference(queries, shared.documents, shared.targets, temperature, teacher_temperature or 1.0, (8, 4))
    assert watched["block"] == pytest.approx(wanted, rel=1e-4)
    assert float(loss) == pytest.approx(2 * wanted, rel=1e-4)
    assert watched["judged"] == pytest.approx(float(shared.targets.isfinite().sum(1).float().mean()))


def test_a_teacher_model_has_a_target_for_all_pairs_documents_among_each_other_too():
    queries, shared = block()
    loss, watched = alone(queries, shared, targets="teacher", documents_weight=0.25)
    q, d = normalize(shared.teacher_queries, dim=-1), normalize(shared.teacher_documents, dim=-1)
    among = (d @ d.T).masked_fill(torch.eye(len(d), dtype=torch.bool), float("nan"))
    between = reference(queries, shared.documents, q @ d.T, 0.05, 0.05, (8, 4))
    inside = reference(shared.documents, shared.documents, among, 0.05, 0.05, (8, 4))
    assert watched["block_queries"] == pytest.approx(between, rel=1e-4)
    assert watched["block_documents"] == pytest.approx(inside, rel=1e-4)
    assert float(loss) == pytest.approx(2 * (between + 0.25 * inside), rel=1e-4)
    _, without = alone(queries, shared, targets="teacher", documents_weight=0.0)
    assert without["block"] == pytest.approx(between, rel=1e-4)


@pytest.mark.parametrize("targets", ["scores", "teacher"])
def test_the_gradient_reaches_queries_and_documents(targets):
    queries, shared = block()
    queries.requires_grad_()
    shared.documents.requires_grad_()
    loss, _ = alone(queries, shared, targets=targets)
    loss.backward()
    assert queries.grad.isfinite().all()
    assert shared.documents.grad.isfinite().all()
    assert shared.documents.grad.norm(dim=1).min() > 0


def test_without_a_block_or_without_a_teachers_vectors_the_term_is_left_out():
    queries, shared = block()
    config = ObjectiveConfig(block=BlockConfig(weight=1.0))
    ids = torch.arange(7), 100 + torch.arange(14).reshape(7, 2)
    _, watched = Objective(config, (8,))(queries, shared.documents[shared.rows], *ids)
    assert "block" not in watched
    assert ObjectiveConfig(block=BlockConfig(weight=1.0, targets="teacher")).needs_teacher
    assert not config.needs_teacher
    assert config.needs_block
