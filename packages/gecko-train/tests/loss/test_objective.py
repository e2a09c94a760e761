import pytest
import torch
from pydantic import ValidationError

from gecko_core.errors import ConfigError
from gecko_train.loss.kl import KlConfig
from gecko_train.loss.matching import MatchingConfig
from gecko_train.loss.objective import Objective, ObjectiveConfig


def test_dims_above_the_models_are_refused():
    with pytest.raises(ConfigError, match=r"objective\.dims: 16 is larger than the model's 8"):
        Objective(ObjectiveConfig(dims=[16, 8]), dims=(8,))


def test_terms_are_those_with_a_weight_in_the_order_of_the_fields():
    config = ObjectiveConfig.model_validate({"spread_out": {"weight": 0.1}, "kl": {"weight": 2, "documents": 5}})
    assert list(config.terms) == ["kl", "spread_out"]
    assert (config.scored_documents, config.needs_teacher) == (5, False)
    assert Objective(config, (8,)).documents == 5
    assert ObjectiveConfig(kl=KlConfig(documents=5)).scored_documents == 0
    assert ObjectiveConfig(matching=MatchingConfig(weight=1.0)).needs_teacher


def test_the_loss_is_the_weighted_sum_of_what_is_watched():
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(4, 8, generator=generator), torch.randn(4, 3, 8, generator=generator)
    scores, teacher = torch.randn(4, 3, generator=generator), torch.randn(4, 4, 6, generator=generator)
    weights = {"kl": 0.5, "matching": 3.0, "spread_out": 0.1}
    config = ObjectiveConfig.model_validate({name: {"weight": weight} for name, weight in weights.items()})
    ids = torch.arange(4), 10 + torch.arange(12).reshape(4, 3)
    loss, watched = Objective(config, (8,))(q, d, *ids, scores, teacher)
    wanted = watched["contrastive"] + sum(weight * watched[name] for name, weight in weights.items())
    assert float(loss) == pytest.approx(wanted, rel=1e-6)
    _, alone = Objective(config, (8,))(q, d, *ids)  # what needs scores or a teacher is left out
    assert {"kl", "matching"} & set(alone) == set()
    assert "spread_out" in alone


def test_an_override_changes_what_it_names_and_nothing_else():
    stage = ObjectiveConfig.model_validate({"temperature": 0.1, "kl": {"weight": 1.0, "documents": 6}})
    override = ObjectiveConfig.model_validate({"same_tower": False, "kl": {"weight": 0.0}, "spread_out": {"weight": 2}})
    merged = stage.overridden(override)
    assert (merged.temperature, merged.same_tower) == (0.1, False)
    assert (merged.kl.weight, merged.kl.documents, merged.spread_out.weight) == (0.0, 6, 2.0)
    assert stage.overridden(None) == stage
    with pytest.raises(ValidationError, match="dim_weights needs dims of the same length"):
        ObjectiveConfig(dims=[8, 4], dim_weights=[1.0, 2.0]).overridden(ObjectiveConfig(dims=[8]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kl_weight": 1.0}, "'kl_weight' is now called 'kl.weight'"),
        ({"kl_documents": 4}, "'kl_documents' is now called 'kl.documents'"),
        ({"kl_teacher_temperature": 2.0}, "is now called 'kl.teacher_temperature'"),
        ({"matching_weight": 1.0}, "'matching_weight' is now called 'matching.weight'"),
        ({"spread_out": 0.1}, "a term is a section now; write {weight: 0.1}"),
    ],
)
def test_earlier_keys_are_answered_with_the_new_name(values, message):
    with pytest.raises(ValidationError, match=message):
        ObjectiveConfig.model_validate(values)


def test_weights_are_free_and_a_term_may_stand_alone():
    generator = torch.Generator().manual_seed(0)
    q, d = torch.randn(4, 8, generator=generator), torch.randn(4, 3, 8, generator=generator)
    scores = torch.randn(4, 3, generator=generator)
    ids = torch.arange(4), 10 + torch.arange(12).reshape(4, 3)
    options = {"kl": {"weight": 10.0}}
    whole, parts = Objective(ObjectiveConfig.model_validate(options), (8,))(q, d, *ids, scores)
    for weight in (0.0, 0.1, 2.0):
        config = ObjectiveConfig.model_validate({**options, "contrastive_weight": weight})
        loss, watched = Objective(config, (8,))(q, d, *ids, scores)
        assert float(loss) == pytest.approx(weight * parts["contrastive"] + 10 * parts["kl"], rel=1e-5)
        assert ("contrastive" in watched) == (weight > 0)
        assert watched["kl"] == pytest.approx(parts["kl"], rel=1e-5)
    assert float(whole) == pytest.approx(parts["contrastive"] + 10 * parts["kl"], rel=1e-5)


def test_the_targets_are_those_of_the_term_that_reads_them():
    config = ObjectiveConfig.model_validate(
        {"kl": {"weight": 1, "score": "ql"}, "block": {"weight": 1, "score": "fused", "teacher_temperature": 0.5}}
    )
    assert config.targets(block=False) == ("ql", None)
    assert config.targets(block=True) == ("fused", 0.5)
    assert ObjectiveConfig.model_validate({"kl": {"weight": 1, "score": "ql"}}).targets(block=True) == ("ql", None)
    assert (config.scored_documents, config.reads_unanswered) == (8, True)
    assert not ObjectiveConfig.model_validate({"spread_out": {"weight": 1}}).reads_unanswered
