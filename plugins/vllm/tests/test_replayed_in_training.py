"""A training step along what vLLM really gave: ids alone, beside a model of plain transformers."""

import base64
import io

import numpy as np
import pytest
import torch
from c3po_vllm.engine_files import import_trace
from test_trace_import import REAL, model_of_vllm, written

from c3po_adaptive import replaying
from c3po_adaptive.errors import ShapeError
from c3po_adaptive.testing import tiny_moe

CHOICE = REAL["answers"]["/v1/completions"]["choices"][0]
TOKENS = torch.tensor([CHOICE["prompt_token_ids"] + CHOICE["token_ids"]])


def routed_experts():
    """As vLLM's answer has them, ``[tokens - 1, decoder layers, k]``, zeros in the dense layer."""
    held = np.load(io.BytesIO(base64.b64decode(CHOICE["routed_experts"])))
    assert held.shape == (TOKENS.shape[1] - 1, 3, 2) and held.dtype == np.uint8 and not held[:, 0].any()
    return torch.from_numpy(held)


def trained():
    return tiny_moe(REAL["family"], **REAL["settings"]).requires_grad_(True).train()


def likelihoods(model):
    scores = model(input_ids=TOKENS, use_cache=False).logits[0, :-1].log_softmax(-1)
    return scores.gather(1, TOKENS[0, 1:, None]).squeeze(1)


@pytest.mark.parametrize("imported", [False, True])
def test_a_training_step_along_the_experts_of_vllm(imported, tmp_path):
    model, theirs = trained(), torch.tensor(REAL["log_likelihoods"])
    routes = [routed_experts()]
    if imported:
        path = written(tmp_path / "answer.json", REAL["answers"]["/v1/completions"])
        routes = import_trace(model_of_vllm(), "vllm", path)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with replaying(model, routes):
        before = likelihoods(model)
        (-before.mean()).backward()
        torch.testing.assert_close(before, theirs, atol=1e-4, rtol=0)
        for name, parameter in model.named_parameters():
            if "gate.weight" in name or "experts" in name:
                assert parameter.grad.any(), name
        optimizer.step()
        assert likelihoods(model).mean() > before.mean()


def test_a_row_too_few_is_refused():
    with (
        pytest.raises(ShapeError, match="of the 54 tokens of sequence 0, or of all but the last, got 52"),
        replaying(model := trained(), [routed_experts()[1:]]),
    ):
        likelihoods(model)
