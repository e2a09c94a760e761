import pytest
import torch

from gecko_train.loop.flops import peak_flops, step_flops


def test_six_flops_per_weight_and_token_and_attention_by_the_square(tiny_model):
    embedded = tiny_model.vocabulary * 32
    weights = sum(p.numel() for p in tiny_model.backbone.parameters()) - embedded
    assert step_flops(tiny_model, [10]) == 6 * weights * 10 + 12 * 2 * 32 * 100
    assert step_flops(tiny_model, [10, 10]) == 2 * step_flops(tiny_model, [10])
    assert step_flops(tiny_model, [10], frozen=True) == 4 * weights * 10 + 12 * 2 * 32 * 100


def test_the_peak_is_given_or_measured():
    cpu = torch.device("cpu")
    assert peak_flops(cpu, torch.float32, tflops=2.5) == 2.5e12
    assert peak_flops(cpu, torch.float32) > 1e8


@pytest.mark.gpu
def test_the_rated_peak_of_a_known_gpu():
    if "H100" not in torch.cuda.get_device_name():
        pytest.skip("another GPU")
    assert peak_flops(torch.device("cuda"), torch.bfloat16) == 989e12
