import json
import math

import pytest
import torch

from gecko_core.errors import DataError
from gecko_train.loop import checkpoint


def test_a_loss_that_is_not_finite_stops_with_its_rows_saved(trainer, tiny_model, row_set, tmp_path):
    with torch.no_grad():
        next(tiny_model.parameters()).fill_(math.nan)
    with pytest.raises(
        DataError, match=r"step 1: the loss .nan.* is not finite; its rows are in .*json; lower learning_rate"
    ):
        trainer(tiny_model, [row_set("a", 32)], tmp_path, max_steps=2).train()
    saved = json.loads((tmp_path / "not-finite-step-1-rank-0.json").read_text())
    assert len(saved) == 8
    assert saved[0]["query"]
    assert checkpoint.latest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("checkpoint_every", [0, 1])
def test_weights_that_the_last_step_breaks_are_not_saved(
    trainer, tiny_model, row_set, tmp_path, monkeypatch, checkpoint_every
):
    made = trainer(tiny_model, [row_set("a", 16)], tmp_path, max_steps=1, checkpoint_every=checkpoint_every)
    step = torch.optim.AdamW.step

    def breaks(self, *arguments, **options):
        step(self, *arguments, **options)
        self.param_groups[0]["params"][0].data.view(-1)[0] = math.inf

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    with pytest.raises(DataError, match=r"step 1: 1 of the weights' tensors are not finite \(.*lower learning_rate"):
        made.train()
    assert not checkpoint.checkpoints(tmp_path / "checkpoints")
