"""LoRA (Hu et al. 2021, arXiv 2106.09685) through peft: added to the backbone for a stage, merged when it ends."""

from __future__ import annotations

from typing import Any

import torch

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_core.folder import resolve
from gecko_train.config import LoraConfig
from gecko_train.loop.frozen import unfreeze


def add_lora(model: Gecko, config: LoraConfig, seed: int = 0) -> None:
    """Freeze the backbone and add trainable low-rank adapters to it; a head stays trainable.

    Args:
        model: changed in place.
        config: rank, scale, dropout and layers of the adapters.
        seed: of their initial weights.

    Raises:
        ConfigError: peft is not installed, or no layer whose output is read has one of the named targets.
    """
    try:
        from peft import LoraConfig as PeftConfig
        from peft import get_peft_model
    except ImportError:
        raise ConfigError("lora: peft is not installed; pip install 'gecko-train[lora]', or leave lora out") from None
    options: dict[str, Any] = {"lora_alpha": config.alpha}  # declared int, but peft computes with floats as well
    peft_config = PeftConfig(
        r=config.rank, **options, lora_dropout=config.dropout, target_modules=config.targets,
        task_type="FEATURE_EXTRACTION",
    )  # fmt: skip
    backbone: Any = model.backbone
    _check_targets(backbone, config.targets)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.backbone = get_peft_model(backbone, peft_config)
    except ValueError as error:
        raise ConfigError(f"lora.targets: {str(error).splitlines()[0]}; name linear layers of the backbone") from None
    for name, parameter in model.backbone.named_parameters():
        if _in_pooler(name):  # its adapters would get no gradient either, which several ranks wait for
            parameter.requires_grad_(False)


def check_lora(student: str, config: LoraConfig | None) -> None:
    """Check that a model which is not loaded yet has the layers that are to be adapted.

    Args:
        student: its name; one that is not on this machine is not looked at.
        config: of the adapters, or None.

    Raises:
        ConfigError: it has none of such a name, or its output is not read.
        ModelError: no model of this name.
    """
    path = resolve(student).path if config is not None and isinstance(config.targets, list) else None
    if config is None or path is None or not (path / "config.json").is_file():
        return
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):  # layers without weights
        backbone = AutoModel.from_config(AutoConfig.from_pretrained(path, trust_remote_code=False))
    _check_targets(backbone, config.targets)


def _check_targets(backbone: Any, targets: list[str] | str) -> None:
    """Make sure that every target is a layer whose output is read; peft takes the others without a word.

    Raises:
        ConfigError: one is not.
    """
    modules = dict(backbone.named_modules())
    for target in targets if isinstance(targets, list) else []:
        adapted = [name for name in modules if name == target or name.endswith(f".{target}")]
        if not adapted:
            raise ConfigError(f"lora.targets: no layer of the backbone is called {target!r}; name linear layers of it")
        if any(getattr(modules[name], "weight", torch.empty(0)).dim() < 2 for name in adapted):
            raise ConfigError(f"lora.targets: {target!r} is no linear layer of the backbone; name linear layers of it")
        if all(map(_in_pooler, adapted)):
            raise ConfigError(f"lora.targets: {target!r} is of the pooler, which mean pooling does not read")


def _in_pooler(name: str) -> bool:
    return "pooler" in name.split(".")


def merge_lora(model: Gecko) -> None:
    """Add the adapters' products to the weights and leave a plain backbone, all of it trainable again."""
    backbone: Any = model.backbone
    model.backbone = backbone.merge_and_unload()
    unfreeze(model)
