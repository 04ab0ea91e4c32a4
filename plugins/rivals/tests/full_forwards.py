"""Full forwards of tiny models, which published rivals are held against."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from models.families.checks import model_of

from c3po_adaptive.testing import toy_context
from c3po_adaptive.testing.answerers import toy_questions

FAMILIES = ("olmoe", "deepseek", "qwen2_moe", "mixtral")
ASKED = toy_questions(4, "asked")


def context_of(family, **settings):
    return replace(toy_context(**settings), model=model_of(family))


def answered(strategy, family, **settings):
    """A context, and what the strategy answers there."""
    context = context_of(family, **settings)
    return context, strategy.prepare(context).answer(ASKED)


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
    with torch.no_grad(), rerouted(model, choose) if choose else nullcontext():
        for option in prompt.options:
            logits = model(torch.tensor([list(prompt.ids + option)]), use_cache=False).logits[0]
            found.append(logits[len(prompt.ids) - 1 : -1])
    return found


def scores_of(model, prompt, choose=None):
    """The mean log-likelihood of each option, likewise."""
    each = zip(prompt.options, prompt.lengths, token_logits(model, prompt, choose), strict=True)
    return [float(z.log_softmax(-1)[range(len(o)), list(o)].sum()) / length for o, length, z in each]


def weighed(logits, weights, index, renormalized):
    chosen = logits.softmax(-1).gather(1, index)
    return chosen / chosen.sum(-1, keepdim=True) if renormalized else chosen
