"""Each family that works takes the experts that it used itself, by ids alone and with weights, and others instead."""

import pytest
import torch
from models.families.test_given_router_logits import READ

from c3po_adaptive import ModelError, read_routing, replaying
from c3po_adaptive.models.replaying import sites_of
from c3po_adaptive.testing import tiny_moe

IDS = torch.arange(5, 29).view(2, 12)
WEIGHTS_ALONE = {"phimoe"}
BY_TOKEN = {"deepseek_v4"}


@pytest.mark.parametrize("family", READ)
def test_is_replayed(family):
    model = tiny_moe(family).requires_grad_(True)
    for site in sites_of(model):
        if hasattr(site.router, "tid2eid"):
            tokens = torch.arange(128)
            site.router.tid2eid.copy_(torch.stack([tokens % 8, (tokens + 3) % 8], 1))
    inputs = {"input_ids": IDS, "use_cache": False}
    with torch.no_grad():
        plain, found = model(**inputs).logits, read_routing(model, {"input_ids": IDS})
        with replaying(model, found.experts, found.weights):
            torch.testing.assert_close(model(**inputs).logits, plain, atol=1e-5, rtol=0)
        others = torch.where((found.experts ^ 1) < sites_of(model)[0].mixable, found.experts ^ 1, found.experts)
        with replaying(model, others, found.weights):
            assert (model(**inputs).logits - plain).abs().max() > 1e-3
    if family in WEIGHTS_ALONE:
        with pytest.raises(ModelError, match="give the weights"), replaying(model, found.experts):
            model(**inputs)
        return
    with replaying(model, found.experts):
        logits = model(**inputs).logits
        logits.float().log_softmax(-1).mean().backward()
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=0)
    assert all(any(p.grad is not None and p.grad.any() for p in s.router.parameters()) for s in sites_of(model))
    if family in BY_TOKEN:
        with pytest.raises(ModelError, match="HashRouter makes others of them"), replaying(model, others):
            model(**inputs)
        return
    with torch.no_grad(), replaying(model, others):
        assert (model(**inputs).logits - plain).abs().max() > 1e-3
