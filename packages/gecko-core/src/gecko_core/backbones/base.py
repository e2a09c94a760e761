"""What a Gecko needs to know of a kind of backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from gecko_core.encode.cpu import Compute
from gecko_core.encode.packing import Packed
from gecko_core.errors import ModelError

DEFAULT_MAX_LENGTH = 512


class Adapter:
    """Loads and runs one family of backbones; everything else is shared.

    A subclass overrides what differs from the defaults here, which fit a bidirectional encoder that needs padding.

    Args:
        model_type: the Hugging Face ``model_type``, one of ``model_types``.

    Attributes:
        model_types: the Hugging Face model types of this family.
        causal: whether they are language models, whose causal mask is lifted.
    """

    model_types: ClassVar[frozenset[str]]
    causal: ClassVar[bool] = False

    def __init__(self, model_type: str) -> None:
        self.model_type = model_type

    def model_class(self) -> Any:
        """Return the transformers class whose ``from_pretrained`` gives the bare backbone."""
        from transformers import AutoModel

        return AutoModel

    def prepare(self, model: nn.Module) -> None:
        """Change the freshly loaded model in place, once.

        Raises:
            ModelError: the model cannot be a backbone.
        """

    def check_published(self, config: Any, folder: Path) -> None:
        """Make sure that :meth:`prepare` leaves a finished embedder as its makers ran it.

        Args:
            config: as it was published.
            folder: of the model, for the message.

        Raises:
            ModelError: it would compute other vectors.
        """

    def hidden_states(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Last hidden states of right-padded input: (B, L), (B, L) -> (B, L, D)."""
        return model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state

    def max_length(self, config: Any) -> int | None:
        """Return the most tokens the backbone has positions for; None where there is no limit."""
        return int(config.max_position_embeddings)

    def packs(self, config: Any) -> bool:
        """Whether the backbone can run without padding: it takes positions from outside and attends by SDPA."""
        return False

    def fuses(self, model: nn.Module) -> bool:
        """Whether ``packed_states`` has a faster way for this model as things are now, without gradients on a CPU."""
        return False

    def padding_position(self, config: Any) -> int | None:
        """Return the position of padding tokens where positions count from it; see :func:`packing.packed`."""
        return None

    def packed_states(self, model: nn.Module, batch: Packed) -> Tensor:
        """Last hidden states (T, D) of texts laid end to end, each as if alone. Where ``packs`` or ``fuses``."""
        raise ModelError(f"{self.model_type}: cannot run without padding")


def hidden_size(config: Any) -> int:
    """Return the width of a backbone's hidden states; T5 calls it d_model."""
    return int(getattr(config, "d_model", None) or config.hidden_size)


def takes_long_rows() -> bool:
    """Whether transformers' models take one row of more tokens than they have positions: from version 5 on."""
    import transformers

    return int(transformers.__version__.split(".")[0]) >= 5


def attends_by_sdpa(config: Any) -> bool:
    """Whether attention is PyTorch's ``scaled_dot_product_attention``, called as transformers 5 does."""
    return takes_long_rows() and getattr(config, "_attn_implementation", "") == "sdpa"


def run_packed(model: nn.Module, batch: Packed, masks: Tensor | dict[str, Tensor], **options: Any) -> Tensor:
    """Run a backbone on a packed batch.

    Args:
        model: the backbone.
        batch: texts laid end to end, T tokens.
        masks: how far a token sees (:func:`gecko_core.encode.cpu.window`), for all layers or by kind of layer.
        **options: further arguments of the backbone.

    Returns:
        Last hidden states, (T, D).
    """
    with Compute(batch.tiles, training=model.training):
        output = model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            attention_mask=masks,
            return_dict=True,
            **options,
        )
    return output.last_hidden_state[0]
