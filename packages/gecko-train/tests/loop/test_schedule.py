import pytest
import torch
from torch import nn

from gecko_core.devices import compute_dtype
from gecko_train.config import TrainerConfig
from gecko_train.loop.schedule import forward_dtype, learning_rate_factor, make_optimizer


def test_the_learning_rate_warms_up_and_ends_at_zero():
    for schedule, middle in (("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)):
        config = TrainerConfig(schedule=schedule, warmup=0.1)
        factors = [learning_rate_factor(step, 100, config) for step in range(101)]
        assert factors[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
        assert factors[55] == pytest.approx(middle)
        assert factors[100] == pytest.approx(1.0 if schedule == "constant" else 0.0)


def test_matrices_decay_and_vectors_do_not_and_what_is_frozen_is_left_out():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    model[2].requires_grad_(False)
    matrices, vectors = make_optimizer(model, TrainerConfig(weight_decay=0.3)).param_groups
    assert (len(matrices["params"]), matrices["weight_decay"]) == (1, 0.3)
    assert (len(vectors["params"]), vectors["weight_decay"]) == (3, 0.0)


def test_precision_is_as_given_or_as_the_device_computes():
    cpu = torch.device("cpu")
    assert forward_dtype(cpu, "bf16") == torch.bfloat16
    assert forward_dtype(cpu, "fp32") == torch.float32
    assert forward_dtype(cpu, "auto") == compute_dtype(cpu)
