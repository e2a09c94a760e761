import pytest
import torch

from gecko_core.backbones import output_weight
from gecko_core.errors import ModelError


def test_the_output_layer_of_a_language_model(tmp_path, backbone_folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(backbone_folder("llama"))
    config.tie_word_embeddings = False
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path / "lm", max_shard_size="10KB")  # several files
    found = output_weight(tmp_path / "lm")
    assert torch.equal(found, model.get_output_embeddings().weight)
    assert output_weight(tmp_path / "lm", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_folder_without_one_is_refused(backbone_folder):
    with pytest.raises(ModelError, match=r"has no lm_head.weight"):
        output_weight(backbone_folder("llama"))


def test_a_damaged_file_is_one_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        output_weight(tmp_path)
