"""A choice among candidates that stays a sum: each candidate's weight, learned by the likelihood of the whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PENALTY = 1.0
"""Of half the squared length of what is learned: as much as one reference counts."""

LEAST = 0.02
"""What weighs less is left out of a sum: it is not read, or not asked for its gradient."""

Array = NDArray[np.floating]


def weights(learned: Array, seen: Array, toll: Array) -> Array:
    """``[N, J]`` softmax over each question's J candidates of ``seen [N, J, F] @ learned [F] − toll [N, J]``.

    Args:
        learned: of each feature.
        seen: features of each candidate.
        toll: what each costs, in nats; inf: it is not there.
    """
    from scipy.special import softmax

    return np.asarray(softmax(seen @ learned - toll, -1))


def heavy(found: Array) -> Array:
    """``[..., J]`` the same weights without those below ``LEAST``, and of sum one again."""
    kept = np.where(found >= np.minimum(LEAST, found.max(-1, keepdims=True)), found, 0.0)
    return np.asarray(kept / kept.sum(-1, keepdims=True))


def posterior(prior: Array, right: Array) -> Array:
    """``[N, J]`` how much of each question's ``Σ_j prior [N, J] · exp(right [N, J])`` each candidate is.

    By it the gradient of the sum's logarithm is the mean of theirs: ∇ log Σ_j p_j f_j = Σ_j (p_j f_j / Σ) ∇ log f_j.
    """
    from scipy.special import softmax

    with np.errstate(divide="ignore"):
        return np.asarray(softmax(np.log(prior) + right, -1))


def fitted(seen: Array, right: Array) -> Array:
    """``[F]`` what makes right answers likeliest under the sum, Σ_n log Σ_j w_nj exp(right_nj), by L-BFGS from zero.

    Args:
        seen: ``[N, J, F]`` features of each candidate.
        right: ``[N, J]`` the right answer's log-likelihood by each candidate; -inf: it is not there.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax, logsumexp

    toll = np.where(np.isfinite(right), 0.0, np.inf)

    def loss(learned: Array) -> tuple[float, Array]:
        logs = log_softmax(seen @ learned - toll, -1)
        share = posterior(np.exp(logs), right)
        slope = np.einsum("nj,njf->f", np.exp(logs) - share, seen)
        whole = -logsumexp(np.where(np.isfinite(right), logs + right, -np.inf), -1).sum()
        return float(whole + PENALTY / 2 * learned @ learned), slope + PENALTY * learned

    return np.asarray(minimize(loss, np.zeros(seen.shape[-1]), jac=True, method="L-BFGS-B").x)
