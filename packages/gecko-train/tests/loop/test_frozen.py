import io
import json

import pytest
import torch
from rich.console import Console

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_train.config import MntpConfig, ObjectiveConfig, TrainerConfig
from gecko_train.data.mixture import Mixture
from gecko_train.loop.flops import step_flops
from gecko_train.loop.frozen import freeze_layers, freeze_pooler, unfreeze
from gecko_train.loop.trainer import Trainer
from gecko_train.loss.objective import Objective


def frozen(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def train(model, row_set, folder, **more):
    config = TrainerConfig(batch_size=8, precision="fp32", learning_rate=1e-2, frozen_layers=1, **more)
    mixture = Mixture([row_set("a", 32)], batch_size=8)
    objective = Objective(ObjectiveConfig(), model.dims)
    return Trainer(model, mixture, [objective], config, folder, console=Console(file=io.StringIO())).train()


@pytest.mark.parametrize(
    "options", [{}, {"grad_cache": True, "micro_batch_tokens": 64}, {"gradient_checkpointing": True}]
)
def test_embeddings_and_lowest_layers_stay_and_the_others_are_trained(tiny_model, row_set, tmp_path, options):
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    pooler = {name for name in before if ".pooler." in name}
    train(tiny_model, row_set, tmp_path / "run", max_steps=3, **options)
    changed = {name for name, tensor in tiny_model.state_dict().items() if not torch.equal(tensor, before[name])}
    still = {name for name in before if ".embeddings." in name or ".layer.0." in name}
    assert still
    # A bias of the keys moves all scores of a softmax alike, and so has no gradient.
    without_gradient = {name for name in before if name.endswith("key.bias")}
    assert changed | without_gradient == set(before) - still - pooler | without_gradient
    assert frozen(tiny_model) == pooler & frozen(tiny_model)


def test_what_is_frozen_has_no_dropout_and_is_computed_once(tiny_model, row_set, tmp_path, monkeypatch):
    seen, lowest = [], tiny_model.backbone.encoder.layer[0]
    plain = type(lowest).forward

    def forward(self, hidden, *arguments, **options):
        if self is lowest:
            seen.append(self.training)
        return plain(self, hidden, *arguments, **options)

    monkeypatch.setattr(type(lowest), "forward", forward)
    train(tiny_model, row_set, tmp_path / "run", max_steps=4)
    of_one_epoch = len(seen)
    assert of_one_epoch
    assert not any(seen)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("work" not in line and line["mfu"] > 0 for line in lines)
    seen.clear()
    train(tiny_model, row_set, tmp_path / "longer", max_steps=8)
    assert len(seen) == of_one_epoch


def test_gradients_above_are_those_of_a_whole_backward_pass(tiny_model):
    def gradients():
        tiny_model.zero_grad(set_to_none=True)
        tiny_model.train(False)
        ids = torch.arange(5, 13)[None]
        tiny_model(ids, torch.ones_like(ids)).square().mean().backward()
        return {name: p.grad for name, p in tiny_model.named_parameters() if p.grad is not None}

    whole = gradients()
    freeze_layers(tiny_model, 1)
    upper = gradients()
    assert upper
    assert len(upper) < len(whole)
    assert all(torch.equal(gradient, whole[name]) for name, gradient in upper.items())


def test_a_run_goes_on_to_the_same_bits(tiny_backbone, row_set, tmp_path):
    import shutil

    trained = []
    for name in ("whole", "stopped"):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        train(model, row_set, tmp_path / name, max_steps=4, checkpoint_every=2)
        if name == "stopped":
            shutil.rmtree(tmp_path / name / "checkpoints" / "step-000004")
            model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
            train(model, row_set, tmp_path / name, max_steps=4, checkpoint_every=2)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*trained)


def test_a_language_models_embeddings_are_frozen_and_its_last_norm_is_not(language_model):
    model = Gecko.from_backbone(language_model(), dims=(16,), device="cpu", dtype=torch.float32)
    freeze_layers(model, 1)
    names = frozen(model)
    assert any("embed_tokens" in name for name in names)
    assert all("embed_tokens" in name or ".layers.0." in name for name in names)
    unfreeze(model)
    assert not frozen(model)


def test_no_layer_means_that_nothing_is_frozen(tiny_model):
    freeze_layers(tiny_model, 0)
    freeze_pooler(tiny_model)
    assert frozen(tiny_model)
    assert all(".pooler." in name for name in frozen(tiny_model))


def test_what_cannot_be_is_one_line(tiny_model):
    with pytest.raises(ConfigError, match="2 of the backbone's 2 layers; leave at least one"):
        freeze_layers(tiny_model, 2)
    with pytest.raises(ValueError, match="leave frozen_layers or lora out"):
        TrainerConfig(frozen_layers=1, lora={})
    with pytest.raises(ValueError, match="trains all layers"):
        MntpConfig(trainer={"frozen_layers": 1})


def test_a_frozen_layer_costs_its_forward_pass_alone(tiny_model):
    of_layer = sum(parameter.numel() for parameter in tiny_model.backbone.encoder.layer[0].parameters())
    assert step_flops(tiny_model, [10]) - step_flops(tiny_model, [10], frozen_layers=1) == (
        4 * of_layer * 10 + 8 * 32 * 100
    )
    # Of states that are kept, not even that.
    of_attention = 4 * 32 * 100
    assert step_flops(tiny_model, [10], frozen_layers=1) - step_flops(tiny_model, [10], frozen_layers=1, below=[]) == (
        2 * of_layer * 10 + of_attention
    )
