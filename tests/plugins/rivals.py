"""What tests of plugins share: their file as a user loads it, and full forwards to hold published rivals against."""

import ast
import sys
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from models.families.checks import model_of

from c3po_adaptive.registry import new_registry
from c3po_adaptive.testing import toy_context

PLUGINS = Path(__file__).parents[2] / "plugins"
FAMILIES = ("olmoe", "deepseek", "qwen2_moe", "mixtral")


def registry_with(*files):
    registry = new_registry()
    for file in files:
        registry.load_file(PLUGINS / file)
    return registry


@cache
def module(file):
    """A plugin file's module, as a registry loads it: its names for tests."""
    path = str(PLUGINS / file)
    return sys.modules[next(entry.module for entry in registry_with(file).table() if entry.plugin == path)]


def module_of(strategy):
    return sys.modules[type(strategy).__module__]


def context_of(family, **settings):
    return replace(toy_context(**settings), model=model_of(family))


def public_names_only(file):
    nodes = [n for n in ast.walk(ast.parse((PLUGINS / file).read_text())) if isinstance(n, ast.ImportFrom)]
    ours = {node.module for node in nodes if node.module.startswith("c3po_adaptive")}
    return ours == {"c3po_adaptive"}


@contextmanager
def rerouted(model, choose):
    """The transformers model, its experts mixed as ``choose(layer, logits [T, E], weights [T, k])`` says.

    ``choose`` gives an index and weights ``[T, n]``. For families whose routers are one matrix called ``gate``.
    """

    def hook_of(layer, block):
        def hook(module, args):
            hidden, _, weights = args
            return hidden, *choose(layer, hidden @ block.gate.weight.T, weights)

        return hook

    blocks = [layer.mlp for layer in model.get_decoder().layers]
    handles = [block.experts.register_forward_pre_hook(hook_of(i, block)) for i, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def token_logits(model, prompt, choose=None):
    """For each option ``[tokens, V]``, the logits that predict its tokens; one full forward an option."""
    found = []
    for option in prompt.options:
        ids = torch.tensor([list(prompt.ids + option)])
        with torch.no_grad():
            if choose is None:
                logits = model(ids, use_cache=False).logits[0]
            else:
                with rerouted(model, choose):
                    logits = model(ids, use_cache=False).logits[0]
        found.append(logits[len(prompt.ids) - 1 : -1])
    return found


def weighed(logits, weights, index, renormalized):
    chosen = logits.softmax(-1).gather(1, index)
    return chosen / chosen.sum(-1, keepdim=True) if renormalized else chosen
