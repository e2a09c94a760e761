"""The optional projection after pooling: a stack of linear layers, as sentence-transformers' `Dense` modules."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gecko_core.backbones.loading import model_errors
from gecko_core.errors import ModelError
from gecko_core.folder.layout import DenseSpec

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "GELU": nn.GELU,
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
}
_PATHS = {
    "Identity": "torch.nn.modules.linear.Identity",
    **{name: f"torch.nn.modules.activation.{name}" for name in ("Tanh", "GELU", "ReLU", "SiLU")},
}


class Dense(nn.Module):
    """One linear layer and its activation: (B, in_features) -> (B, out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False, activation: str = "Identity") -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation_name = activation
        self.activation = _ACTIVATIONS[activation]()

    def forward(self, pooled: Tensor) -> Tensor:
        return self.activation(self.linear(pooled))

    @classmethod
    def load(cls, spec: DenseSpec) -> Dense:
        """Reads one layer. Raises `ModelError` where the file is corrupt or does not hold what its config says."""
        with torch.device("cpu"):
            layer = cls(spec.in_features, spec.out_features, spec.bias, spec.activation)
        with model_errors(spec.path):
            weights = load_file(spec.path)
        expected = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in weights.items()}
        if expected != found:
            raise ModelError(f"{spec.path}: holds {found}, its config.json says {expected}")
        layer.load_state_dict(weights)
        return layer

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors as sentence-transformers does."""
        config = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": _PATHS[self.activation_name],
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def projection(in_features: int, out_features: int, seed: int = 0) -> Dense:
    """A fresh projection without bias, rows or columns orthonormal, so that it changes lengths and angles least."""
    layer = Dense(in_features, out_features)
    generator = torch.Generator().manual_seed(seed)
    nn.init.orthogonal_(layer.linear.weight, generator=generator)
    return layer
