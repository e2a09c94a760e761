"""Weights that training leaves as they are: the lowest layers where a recipe asks for it, and what gets no gradient."""

from __future__ import annotations

from torch import nn

from gecko_core import Gecko
from gecko_core.errors import ConfigError
from gecko_core.folder import resolve


def transformer_layers(backbone: nn.Module) -> nn.ModuleList:
    """The stack of transformer layers: the module list that holds the most weights."""
    stacks = [module for module in backbone.modules() if isinstance(module, nn.ModuleList)]
    return max(stacks, key=lambda stack: sum(p.numel() for p in stack.parameters()), default=nn.ModuleList())


def freeze_pooler(model: Gecko) -> None:
    """Freeze BERT's pooler, where there is one: mean pooling never reads it, so it would never get a gradient."""
    pooler = getattr(model.backbone, "pooler", None)
    if pooler is not None:
        pooler.requires_grad_(False)


def freeze_layers(model: Gecko, count: int) -> None:
    """Freeze the embeddings and the lowest layers; no gradient is computed in them.

    So is MPNet's position bias, which all layers share: with it the lowest would change, too.

    Args:
        model: changed in place.
        count: layers, from the embeddings upwards; 0: nothing is frozen, the embeddings neither.

    Raises:
        ConfigError: the backbone has no layer above them.
    """
    if not count:
        return
    layers = transformer_layers(model.backbone)
    _check(count, len(layers))
    _embeddings(model.backbone, layers).requires_grad_(False)
    for layer in layers[:count]:
        layer.requires_grad_(False)
    for name, module in model.backbone.named_modules():
        if name.endswith("relative_attention_bias"):
            module.requires_grad_(False)


def keep_still(model: Gecko, count: int) -> None:
    """Take the embeddings and the lowest layers out of training mode: what is frozen has no dropout.

    Args:
        model: in training mode.
        count: layers, as for :func:`freeze_layers`.
    """
    if count:
        layers = transformer_layers(model.backbone)
        for module in (_embeddings(model.backbone, layers), *layers[:count]):
            module.eval()


def check_frozen_layers(student: str, count: int) -> None:
    """Check that a model which is not loaded yet has a layer above those to be frozen.

    Args:
        student: its name; one that is not on this machine is not looked at.
        count: layers.

    Raises:
        ConfigError: the backbone has no layer above them.
        ModelError: no model of this name.
    """
    path = resolve(student).path if count else None
    if path is not None and (path / "config.json").is_file():
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
        _check(count, int(getattr(config, "num_hidden_layers", count + 1)))


def _check(count: int, layers: int) -> None:
    if count >= layers:
        raise ConfigError(
            f"trainer.frozen_layers: {count} of the backbone's {layers} layers; leave at least one to be trained"
        )


def unfreeze(model: Gecko) -> None:
    """Make all of the backbone trainable again, but what gets no gradient."""
    model.backbone.requires_grad_(True)
    freeze_pooler(model)


def _embeddings(backbone: nn.Module, layers: nn.ModuleList) -> nn.Module:
    """The token embeddings and what belongs to them (BERT's positions, norm): their parent, if no layer is in it."""
    tokens = backbone.get_input_embeddings()
    for parent in backbone.modules():
        if tokens in parent.children() and layers not in parent.modules():
            return parent
    return tokens
