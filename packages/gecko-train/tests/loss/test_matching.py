import torch
from torch.nn.functional import normalize

from gecko_train.loss.base import Block
from gecko_train.loss.matching import MatchingConfig, matching_loss
from gecko_train.loss.objective import Objective, ObjectiveConfig


def test_equal_widths_are_matched_by_cosine_and_others_by_similarities():
    student = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    assert abs(float(matching_loss(student, 3 * student))) < 1e-6
    assert abs(float(matching_loss(student, -student)) - 2) < 1e-6
    turned = torch.cat([student, torch.zeros(5, 4)], 1)  # wider, yet every similarity is the same
    assert float(matching_loss(student, turned)) < 1e-10
    other = torch.randn(5, 12, generator=torch.Generator().manual_seed(1))
    s, t = normalize(student, dim=-1), normalize(other, dim=-1)
    torch.testing.assert_close(matching_loss(student, other), (s @ s.T - t @ t.T).square().mean())


def test_the_objective_adds_it_with_its_weight():
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(4, 8, generator=generator), torch.randn(4, 2, 8, generator=generator)
    teacher = torch.randn(4, 3, 8, generator=generator)
    ids = torch.arange(4), 10 + torch.arange(8).reshape(4, 2)
    plain, _ = Objective(ObjectiveConfig(), dims=(8,))(q, d, *ids)
    loss, watched = Objective(ObjectiveConfig(matching=MatchingConfig(weight=3.0)), dims=(8,))(
        q, d, *ids, None, teacher
    )
    wanted = matching_loss(torch.cat([q[:, None], d], 1).flatten(0, 1), teacher.flatten(0, 1))
    torch.testing.assert_close(loss - plain, 3 * wanted)
    assert watched["matching"] > 0


def test_what_stands_for_missing_documents_is_not_matched():
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(4, 8, generator=generator), torch.randn(4, 3, 8, generator=generator)
    for width in (8, 12):
        teacher = torch.randn(4, 4, width, generator=generator)
        document_ids = 10 + torch.arange(12).reshape(4, 3)
        document_ids[1, 1:] = document_ids[1, 0]
        document_ids[2, 2] = document_ids[2, 0]
        config = ObjectiveConfig(contrastive_weight=0.0, matching=MatchingConfig(weight=1.0))
        loss, _ = Objective(config, dims=(8,))(q, d, torch.arange(4), document_ids, None, teacher)
        kept = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]
        student = torch.stack([*q, *(d[row, column] for row, column in kept)])
        wanted = torch.stack([*teacher[:, 0], *(teacher[row, 1 + column] for row, column in kept)])
        torch.testing.assert_close(loss, matching_loss(student, wanted))


def test_a_projection_brings_the_student_to_the_teachers_width():
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(4, 8, generator=generator), torch.randn(4, 2, 8, generator=generator)
    teacher = torch.randn(4, 3, 12, generator=generator)
    projection = torch.nn.Linear(8, 12, bias=False)
    ids = torch.arange(4), 10 + torch.arange(8).reshape(4, 2)
    config = ObjectiveConfig(contrastive_weight=0.0, matching=MatchingConfig(weight=1.0, projection=True))
    loss, _ = Objective(config, dims=(8,))(q, d, *ids, None, teacher, projection=projection)
    student = torch.cat([q[:, None], d], 1) @ projection.weight.T
    wanted = 1 - (normalize(student, dim=-1) * normalize(teacher, dim=-1)).sum(-1).mean()
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert projection.weight.grad.norm() > 0
    assert config.projects
    assert not ObjectiveConfig(matching=MatchingConfig(projection=True)).projects


def test_the_documents_of_a_block_are_matched_once_each():
    generator = torch.Generator().manual_seed(0)
    q, shared = torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)
    rows = torch.tensor([[0, 1], [0, 1], [2, 3], [0, 1]])
    teacher_queries, teacher_documents = torch.randn(4, 8, generator=generator), torch.randn(6, 8, generator=generator)
    block = Block(shared, rows, torch.zeros(4, 6), teacher_queries=teacher_queries, teacher_documents=teacher_documents)
    config = ObjectiveConfig(contrastive_weight=0.0, matching=MatchingConfig(weight=1.0))
    ids = torch.arange(4), 10 + rows
    loss, _ = Objective(config, dims=(8,))(q, shared[rows], *ids, block=block)
    wanted = matching_loss(torch.cat([q, shared]), torch.cat([teacher_queries, teacher_documents]))
    torch.testing.assert_close(loss, wanted)
