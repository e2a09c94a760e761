"""The optional projection after pooling: a stack of linear layers, as sentence-transformers' ``Dense`` modules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gecko_core.backbones.files import check_dtypes, model_errors
from gecko_core.backbones.finite import check_finite
from gecko_core.errors import ModelError
from gecko_core.io import write_json

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Identity": nn.Identity,
    "Tanh": nn.Tanh,
    "GELU": nn.GELU,
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
}


@dataclass(frozen=True)
class DenseSpec:
    """One saved ``Dense`` module.

    Attributes:
        path: the file of its weights.
        in_features: width of what goes in.
        out_features: width of what comes out.
        bias: whether it has a bias.
        activation: one of ``ACTIVATIONS``.
    """

    path: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str


class Dense(nn.Module):
    """One linear layer and its activation: (B, in_features) -> (B, out_features)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = False, activation: str = "Identity") -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]()

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        return self.activation(self.linear(pooled))

    @classmethod
    def load(cls, spec: DenseSpec) -> Dense:
        """Read one layer.

        Raises:
            ModelError: the file is corrupt or does not hold what its config says.
        """
        with model_errors(spec.path), safe_open(spec.path, "pt") as file:
            check_dtypes(spec.path, {name: file.get_slice(name).get_dtype() for name in file.keys()})  # noqa: SIM118
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        expected: dict[str, tuple[int, ...]] = {"linear.weight": (spec.out_features, spec.in_features)}
        if spec.bias:
            expected["linear.bias"] = (spec.out_features,)
        shapes = {name: tuple(value.shape) for name, value in weights.items()}
        if expected != shapes:
            raise ModelError(f"{spec.path}: holds {shapes}, its config.json says {expected}")
        with torch.device("cpu"), model_errors(spec.path):
            layer = cls(spec.in_features, spec.out_features, spec.bias, spec.activation)
            layer.load_state_dict(weights)
        check_finite(layer, spec.path, "fetch or make the model again")
        return layer

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors as sentence-transformers does."""
        module = "linear" if self.activation_name == "Identity" else "activation"
        config = {
            "in_features": self.linear.in_features,
            "out_features": self.linear.out_features,
            "bias": self.linear.bias is not None,
            "activation_function": f"torch.nn.modules.{module}.{self.activation_name}",
        }
        write_json(folder / "config.json", config)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def projection(in_features: int, out_features: int, seed: int = 0) -> Dense:
    """Return a fresh projection without bias, rows or columns orthonormal, so that it changes lengths and angles least.

    Args:
        in_features: width of what goes in.
        out_features: width of what comes out.
        seed: of the random weights.
    """
    layer = Dense(in_features, out_features)
    generator = torch.Generator().manual_seed(seed)
    nn.init.orthogonal_(layer.linear.weight, generator=generator)
    return layer
