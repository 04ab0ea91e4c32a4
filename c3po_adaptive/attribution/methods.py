"""Captum's methods by name: how each is called, and how many tail passes it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import SettingError, suggestion
from .function import PathwayFunction


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is run on.

    Attributes:
        function: f(Ω).
        omega: ``[B, L, E]`` the pathways that are attributed.
        baseline: ``[B, L, E]`` what they are compared with.
        groups: see ``grouped``.
        steps: of integrated gradients.
        draws: orders of features (Shapley values), or as many coalitions (KernelShap).
        seed: of what is drawn, the same for every sample.
    """

    function: PathwayFunction
    omega: Tensor
    baseline: Tensor
    groups: Tensor
    steps: int
    draws: int
    seed: int

    @property
    def samples(self) -> Tensor:
        return torch.arange(len(self.omega))

    @property
    def features(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1


@dataclass(frozen=True)
class Method:
    """One of Captum's.

    Attributes:
        run: gives ``[B, L, E]``.
        captum: the name of Captum's class.
        passes: tail passes per sample, a backward pass counting two, with so many groups, steps and draws.
        complete: its attributions sum to f(Ω) − f(baseline): whatever is drawn, for orders of groups; as well as steps
            integrate, for integrated gradients; as well as a fit says it, for KernelShap.
        by_group: it attributes to groups, not to each weight.
        baseline: it compares with one.
        unused: it takes the gradient of experts without weight, too, which then have to be run.
        drawn: it depends on a seed.
    """

    run: Callable[[Task], Tensor]
    captum: str
    passes: Callable[[int, int, int], int]
    complete: bool = False
    by_group: bool = False
    baseline: bool = True
    unused: bool = False
    drawn: bool = False


def _saliency(task: Task) -> Tensor:
    from captum.attr import Saliency

    omega = task.omega.clone().requires_grad_()
    found: Tensor = Saliency(task.function).attribute(omega, abs=False, additional_forward_args=(task.samples,))
    return found


def _input_x_gradient(task: Task) -> Tensor:
    from captum.attr import InputXGradient

    omega = task.omega.clone().requires_grad_()
    found: Tensor = InputXGradient(task.function).attribute(omega, additional_forward_args=(task.samples,))
    return found


def _integrated_gradients(task: Task) -> Tensor:
    from captum.attr import IntegratedGradients

    found: Tensor = IntegratedGradients(task.function).attribute(
        task.omega.clone(),
        task.baseline,
        additional_forward_args=(task.samples,),
        n_steps=task.steps,
        internal_batch_size=len(task.omega),
    )
    return found


def _feature_ablation(task: Task) -> Tensor:
    from captum.attr import FeatureAblation

    found: Tensor = FeatureAblation(task.function).attribute(
        task.omega, task.baseline, additional_forward_args=(task.samples,), feature_mask=task.groups
    )
    return found


def _shapley_sampling(task: Task) -> Tensor:
    """Each sample sees the same orders of features, so that they can be run together."""
    from captum.attr import ShapleyValueSampling

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        found: Tensor = ShapleyValueSampling(task.function).attribute(
            task.omega,
            task.baseline,
            additional_forward_args=(task.samples,),
            feature_mask=task.groups,
            n_samples=task.draws,
        )
    return found


def _coalitions(groups: int, steps: int, draws: int) -> int:
    """So many for each group, as orders of features have them, and all and none of the groups; enough to fit."""
    return draws * groups + 2


def _kernel_shap(task: Task) -> Tensor:
    """Sample by sample, as Captum fits a linear model to each; with the same coalitions.

    Approximately complete: all groups and none are in the fit with a weight of 10⁶ where others have 1, and not
    infinite, as the kernel of Shapley values has it (Lundberg and Lee 2017, theorem 2). The sum of the values is off
    f(Ω) − f(baseline) by some 10⁻⁶ of what the linear model misses at other coalitions.
    """
    from captum.attr import KernelShap

    if task.features < 2:
        raise SettingError("Expected two groups at least for kernel-shap, got one; take feature-ablation.")
    found = []
    for b in task.samples:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(task.seed)
            found.append(
                KernelShap(task.function).attribute(
                    task.omega[b : b + 1],
                    task.baseline[b : b + 1],
                    additional_forward_args=(b[None],),
                    feature_mask=task.groups[b : b + 1],
                    n_samples=_coalitions(task.features, task.steps, task.draws),
                )
            )
    return torch.cat(found)


METHODS: Mapping[str, Method] = {
    "saliency": Method(_saliency, "Saliency", lambda *_: 3, baseline=False, unused=True),
    "input-x-gradient": Method(_input_x_gradient, "InputXGradient", lambda *_: 3, baseline=False),
    "integrated-gradients": Method(
        _integrated_gradients, "IntegratedGradients", lambda groups, steps, draws: 3 * steps, complete=True, unused=True
    ),
    "feature-ablation": Method(
        _feature_ablation, "FeatureAblation", lambda groups, steps, draws: groups + 1, by_group=True
    ),
    "shapley-sampling": Method(
        _shapley_sampling,
        "ShapleyValueSampling",
        lambda groups, steps, draws: draws * groups + 1,
        complete=True,
        by_group=True,
        drawn=True,
    ),
    "kernel-shap": Method(_kernel_shap, "KernelShap", _coalitions, complete=True, by_group=True, drawn=True),
}
"""Sundararajan et al. 2017 (integrated gradients), Shrikumar et al. 2016 (input × gradient), Simonyan et al. 2014
(saliency), Castro et al. 2009 (Shapley values by sampling), Lundberg and Lee 2017 (KernelShap); all by Captum."""

CAPTUM: Mapping[str, str] = {method.captum: name for name, method in METHODS.items()}
"""Our names, by the names of Captum's classes."""

_HOOKS = "it hooks modules, and routers are functions between them"
UNFIT: Mapping[str, str] = {
    "deep-lift": _HOOKS,
    "deep-lift-shap": _HOOKS,
    "lrp": _HOOKS,
    "guided-backprop": "it hooks ReLU modules, and experts have none",
    "deconvolution": "it hooks ReLU modules, and experts have none",
    "guided-grad-cam": "it needs a convolution, and experts have none",
    "occlusion": "it slides a window, and experts have no order",
}
"""Others of Captum's, and why they cannot be run on a pathway."""

_IN_A_ROW = "it forbids layers that feed each other, as routers in a row do"


def method_name(name: Any) -> str:
    """A method as it is called in ``METHODS``, of that name or of Captum's class.

    Raises:
        SettingError: there is none of that name, or Captum cannot run it here.
    """
    asked = str(name)
    if asked in METHODS:
        return asked
    if asked in CAPTUM:
        return CAPTUM[asked]
    plain = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", asked).lower()
    reason = _IN_A_ROW if plain.startswith(("layer-", "neuron-")) else UNFIT.get(plain)
    why = f"got {name!r}" if reason is None else f"{asked} cannot be run on a pathway: {reason}"
    raise SettingError(f"Expected a method by its name or Captum's; {why}; {suggestion(asked, (*METHODS, *CAPTUM))}")
