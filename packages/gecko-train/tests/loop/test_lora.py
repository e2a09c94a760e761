import importlib.util
import io

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file

from gecko_core.errors import ConfigError
from gecko_train.config import LoraConfig, ObjectiveConfig, TrainerConfig
from gecko_train.data.mixture import Mixture
from gecko_train.loop.lora import add_lora, check_lora, merge_lora
from gecko_train.loop.trainer import Trainer
from gecko_train.loss.objective import Objective

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs the extra `lora`")


def run(model, row_set, folder, steps):
    config = TrainerConfig(
        batch_size=8, max_steps=steps, precision="fp32", learning_rate=1e-2, checkpoint_every=2,
        lora=LoraConfig(rank=4, alpha=8),
    )  # fmt: skip
    mixture = Mixture([row_set("a", 32)], batch_size=8)
    objective = Objective(ObjectiveConfig(), model.dims)
    return Trainer(model, mixture, [objective], config, folder, console=Console(file=io.StringIO())).train()


@needs_peft
def test_only_adapters_are_trained_and_saved_and_they_end_in_the_weights(tiny_model, tiny_backbone, row_set, tmp_path):
    from gecko_core import Gecko

    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    run(tiny_model, row_set, tmp_path / "run", 4)
    after = tiny_model.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert not any("embedding" in name or "LayerNorm" in name for name in changed)
    saved = load_file(tmp_path / "run" / "checkpoints" / "step-000004" / "model.safetensors")
    assert all("lora_" in name for name in saved)
    tiny_model.eval().save_pretrained(tmp_path / "model")
    again = Gecko.from_pretrained(tmp_path / "model", dtype=torch.float32)
    torch.testing.assert_close(
        torch.from_numpy(again.encode(["bank dort"])), torch.from_numpy(tiny_model.encode(["bank dort"]))
    )


@needs_peft
def test_a_run_with_adapters_goes_on_from_its_checkpoint(tiny_backbone, row_set, tmp_path):
    import shutil

    from gecko_core import Gecko

    trained = []
    for name in ("whole", "stopped"):
        model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
        torch.manual_seed(ord(name[0]))  # what happened before must not matter
        run(model, row_set, tmp_path / name, 6)
        if name == "stopped":
            for step in ("step-000006",):
                shutil.rmtree(tmp_path / name / "checkpoints" / step)
            model = Gecko.from_backbone(tiny_backbone, dims=(32, 16), device="cpu", dtype=torch.float32)
            run(model, row_set, tmp_path / name, 6)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(*trained)


@needs_peft
def test_targets_that_are_not_there_are_one_line(tiny_model):
    for targets in (["nothing"], ["query", "nothing"], ["query", "uery"]):
        match = rf"lora\.targets: no layer of the backbone is called '{targets[-1]}'; name linear layers of it"
        with pytest.raises(ConfigError, match=match):
            add_lora(tiny_model, LoraConfig(targets=targets))


@needs_peft
def test_a_pooler_is_no_target(tiny_model):
    """Mean pooling does not read it, so that nothing would have a gradient."""
    with pytest.raises(ConfigError, match=r"lora\.targets: 'pooler.dense' is of the pooler"):
        add_lora(tiny_model, LoraConfig(targets=["pooler.dense"]))


@needs_peft
def test_adapters_of_the_pooler_are_not_trained(tiny_model):
    """They got no gradient: one rank did not notice, two ended at the second step."""
    add_lora(tiny_model, LoraConfig(rank=2, alpha=4))
    trained = {name for name, parameter in tiny_model.named_parameters() if parameter.requires_grad}
    assert trained
    assert any("pooler" in name and "lora_" in name for name, _ in tiny_model.named_parameters())
    assert not any("pooler" in name for name in trained)


def test_without_peft_the_cure_is_named(tiny_model, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"lora: peft is not installed; pip install 'gecko-train\[lora\]'"):
        add_lora(tiny_model, LoraConfig())


@needs_peft
def test_merging_leaves_a_plain_trainable_backbone(tiny_model):
    kind = type(tiny_model.backbone)
    add_lora(tiny_model, LoraConfig())
    assert not all(parameter.requires_grad for parameter in tiny_model.parameters())
    merge_lora(tiny_model)
    assert type(tiny_model.backbone) is kind
    assert all(parameter.requires_grad for name, parameter in tiny_model.named_parameters() if "pooler" not in name)


@needs_peft
@pytest.mark.parametrize(
    ("target", "message"),
    [("nope", "no layer of the backbone is called 'nope'"), ("LayerNorm", "'LayerNorm' is no linear layer")],
)
def test_layers_that_cannot_be_adapted_are_told_without_loading_the_model(tiny_backbone, target, message):
    config = LoraConfig(targets=["query", target])
    with pytest.raises(ConfigError, match=message):
        check_lora(str(tiny_backbone), config)
    check_lora(str(tiny_backbone), LoraConfig(targets=["query"]))
    check_lora(str(tiny_backbone), LoraConfig())
    check_lora(str(tiny_backbone), None)
    with pytest.raises(ValidationError, match="targets"):
        LoraConfig(targets=[])
