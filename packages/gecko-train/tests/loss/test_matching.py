import torch
from torch.nn.functional import normalize

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
