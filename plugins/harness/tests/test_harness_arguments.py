"""One list of arguments, in ``arguments.py``: whatever harness takes them, and as texts, too."""

import inspect

import pytest
import torch
from c3po_harness.arguments import NAMES, Evaluated

from c3po_adaptive import load_moe_model, rule_named
from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.testing import write_tiny_checkpoint


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A checkpoint, another of its kind, and one with a layer less."""
    home = tmp_path_factory.mktemp("models")
    one, other = (write_tiny_checkpoint(home / name, "olmoe", seed) for seed, name in enumerate(("one", "other")))
    return one, other, write_tiny_checkpoint(home / "short", "olmoe", num_hidden_layers=2)


def of_lm_eval(model, given):
    pytest.importorskip("lm_eval", reason="the extra eval is not installed")
    from c3po_harness import C3POLM
    from lm_eval.api.registry import get_model
    from lm_eval.utils import simple_parse_args_string

    assert get_model("hf") is C3POLM.__base__
    text = ",".join(f"{name}={value}" for name, value in {"pretrained": model, **given}.items())
    return C3POLM(**simple_parse_args_string(text))


def of_inspect(model, given):
    pytest.importorskip("inspect_ai", reason="the extra inspect is not installed")
    import c3po_harness.registered  # noqa: F401 (as its entry point does)
    from inspect_ai._cli.util import parse_cli_args
    from inspect_ai.model import get_model

    args = parse_cli_args([f"{name}={value}" for name, value in given.items()])
    return get_model(f"c3po/{model}", memoize=False, **args).api


@pytest.mark.parametrize("harness", [of_lm_eval, of_inspect])
def test_every_argument_is_taken_by_name(harness, monkeypatch):
    class Arrived(Exception):
        pass

    def of(cls, pretrained, **given):
        raise Arrived(pretrained, given)

    taken = [name for name in NAMES if (harness, name) != (of_inspect, "query")]  # a chat has no fields
    given = {name: f"some-{name}" for name in taken} | {"trust_remote_code": "true", "rule": "ban:3/5;top-k:1"}
    monkeypatch.setattr(Evaluated, "of", classmethod(of))
    with pytest.raises(Arrived) as found:
        harness("model", given | {"seed": 3, "scope": "answer"})
    taken_so = given | {"trust_remote_code": True, "settings": {"seed": 3, "scope": "answer"}}
    assert found.value.args == ("model", taken_so)


def test_each_is_described():
    said = inspect.getdoc(Evaluated.of)
    assert [name for name in NAMES if f"\n    {name}: " not in said] == []


def test_numbers_and_switches_may_be_texts(folders, monkeypatch):
    """As lighteval hands on what its command line says."""
    seen = {}
    monkeypatch.setattr(Evaluated, "of", classmethod(lambda cls, pretrained, **given: seen.update(given)))
    Evaluated.asked("model", {"seed": "3", "max_similarity": "0.5", "trust_remote_code": "false"}, (), "arguments")
    assert seen == {"settings": {"seed": 3, "max_similarity": 0.5}, "trust_remote_code": False}
    with pytest.raises(SettingError, match="trust_remote_code=true or trust_remote_code=false, got 'maybe'"):
        Evaluated.asked("model", {"trust_remote_code": "maybe"}, (), "arguments")


@pytest.mark.parametrize("harness", [of_lm_eval, of_inspect])
def test_routers_of_another_checkpoint(harness, folders):
    """As ``c3po repair`` writes one: they route, and all else is the model's own."""
    one, other, _ = folders
    made = harness(one, {"routers": other, "rule": "top-k:1"}).evaluated
    own, donor, text = load_moe_model(one), load_moe_model(other), "which of them floats?"
    for site, mine, theirs in zip(made.routed.sites, own.sites, donor.sites, strict=True):
        assert torch.equal(site.router.weight, theirs.router.weight)
        assert torch.equal(site.experts.down_proj, mine.experts.down_proj)
    assert not torch.allclose(made.routed.forward(text).logits, own.forward(text).logits)
    assert made.told() == {"rule": made.told()["rule"], "routers": "other"}
    assert made.rule == rule_named("top-k:1")


def test_routers_that_do_not_fit_are_refused(folders):
    one, _, short = folders
    with pytest.raises(DataError, match=r"routers of the MoE layers \[0, 1, 2\], which .* has, got those of \[0, 1\]"):
        Evaluated.of(one, routers=short, settings={})
