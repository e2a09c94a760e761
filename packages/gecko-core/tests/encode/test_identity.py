import pytest
import torch

from gecko_core import Gecko
from gecko_core.encode import model_identity


def test_it_is_the_same_after_saving_and_loading_and_encoding(own, tmp_path):
    before = own.identity()
    own.save_pretrained(tmp_path / "m")
    again = Gecko.from_pretrained(tmp_path / "m", device="cpu", dtype=own.dtype)
    again.auto_bf16 = own.auto_bf16
    assert again.identity() == before == model_identity(own)
    own.encode(["a gecko " * 60])  # sets the tokenizer's truncation
    assert own.identity() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompt_style", "gecko"), ("prompts", {"query": "q: "}), ("max_seq_length", 9), ("do_lower_case", True)],
)
def test_it_follows_what_decides_the_vectors(own, name, value):
    own.prompt_style = "plain"
    before = own.identity()
    setattr(own, name, value)
    assert own.identity() != before


def test_it_follows_weights_dtype_and_configuration(own):
    seen = {own.identity()}
    with torch.no_grad():
        next(own.parameters()).flatten()[0] += 1
    seen.add(own.identity())
    own.backbone.config.layer_norm_eps = 0.5
    seen.add(own.identity())
    seen.add(own.to(torch.bfloat16).identity())
    assert len(seen) == 4
