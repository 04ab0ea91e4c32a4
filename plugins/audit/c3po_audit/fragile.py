"""Answer tokens on which the answer hangs: where a small change of routing would turn it."""

from __future__ import annotations

from torch import Tensor

from c3po_adaptive import Ruled


def fragile_tokens(own: Ruled, moved: Ruled) -> list[int]:
    """Ids of a question's fragile tokens, one for each place.

    An answer token is *fragile* if what permuted routers change of its own log-likelihood (divided by its option's
    length, as scores are) is more than the best option's lead over its option, or, in the best option, over the
    second: with all other tokens as they were, this one turns the answer.

    Args:
        own: the question as the model routes.
        moved: the same along another routing.
    """
    scores = own.scores()
    if len(scores) < 2:
        return []
    best = int(scores.argmax())
    lead = scores[best] - scores
    lead[best] = scores[best] - scores.topk(2).values[1]
    of_one = own.option >= 0
    option, change = own.option[of_one], (moved.token_scores - own.token_scores)[of_one]
    lengths = scores.new_tensor(own.prompt.lengths)[option]
    toward: Tensor = change.where(option != best, -change) / lengths
    found: list[int] = own.scored[of_one][toward > lead[option]].tolist()
    return found
