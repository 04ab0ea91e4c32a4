"""Contexts of tiny models for trained baselines, and a picture of all that must be as it was."""

from dataclasses import replace
from functools import cache

import torch

from c3po_adaptive.models.fingerprint import fingerprint
from c3po_adaptive.models.routed import RoutedModel
from c3po_adaptive.references.build import build_reference_set
from c3po_adaptive.testing import tiny_moe, tiny_tokenizer, toy_context
from c3po_adaptive.testing.answerers import ToyEmbedder, toy_questions

ASKED = toy_questions(5, "asked")


@cache
def _model(family):
    return RoutedModel(tiny_moe(family), tiny_tokenizer(), name=family)


@cache
def _references(model, count):
    return build_reference_set(model, toy_questions(count, "references"), ToyEmbedder())


def context_of(family="olmoe", count=20, model=None, folder=None, **settings):
    """A context whose references nothing was learned from yet."""
    model = model or _model(family)
    references = replace(_references(model, count), folder=folder)
    return replace(toy_context(**settings), model=model, build_references=lambda: references)


def learned(context):
    """What was learned from the context's references."""
    (found,) = context.references.learned.values()
    return found


class Picture:
    """All of a model that somebody might alter: compare with ``==``."""

    def __init__(self, model):
        whole = model.model
        self.tensors = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
        self.objects = [(name, id(module)) for name, module in whole.named_modules()]
        self.objects += [(name, id(p), p.requires_grad, p._version) for name, p in whole.named_parameters()]
        self.children = [(name, list(module._modules)) for name, module in whole.named_modules()]
        self.hooks = [
            (name, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for name, module in whole.named_modules()
        ]
        self.attributes = [(name, sorted(vars(module))) for name, module in whole.named_modules()]
        self.training = [(name, module.training) for name, module in whole.named_modules()]
        self.config, self.fingerprint, self.random = whole.config.to_dict(), fingerprint(model), torch.get_rng_state()

    def __eq__(self, other):
        same = self.tensors.keys() == other.tensors.keys()
        same = same and all(torch.equal(a, other.tensors[name]) for name, a in self.tensors.items())
        same = same and torch.equal(self.random, other.random)
        rest = ("objects", "children", "hooks", "attributes", "training", "config", "fingerprint")
        return same and list(self.tensors) == list(other.tensors) and all(vars(self)[k] == vars(other)[k] for k in rest)

    __hash__ = None


def scores(answers):
    return [answer.scores for answer in answers]
