"""How far apart two ways to the same numbers may be, on any processor."""

import pytest
import torch


def assert_near(found, expected, by=1e-5, scale=None):
    """Apart by at most ``by`` times the largest magnitude of ``scale``, which is ``expected`` where nothing is said.

    Instruction sets, libraries and numbers of threads add up a sum in orders of their own, and each order rounds
    otherwise. The error is relative to the terms that were added, not to what is left of them: a small number among
    large ones is often a difference of such terms. So the largest number of a tensor is the measure for all of it. What
    is computed from larger numbers names them: a softmax of logits is off by as much as the logits are.
    """
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    measured = expected if scale is None else scale
    measure = measured[measured.isfinite()].abs().max().item()
    torch.testing.assert_close(found, expected, atol=by * measure, rtol=0)


def near(value, by=1e-5, rel=None):
    """For comparison with ``==``: a record, whose floats may be apart by ``by``, wherever in it they stand. What two
    threads add up comes out otherwise when a library takes one of them, as it does on a busy machine."""
    if isinstance(value, dict):
        return {key: near(part, by, rel) for key, part in value.items()}
    if isinstance(value, list):
        return [near(part, by, rel) for part in value]
    return pytest.approx(value, rel=by if rel is None else rel, abs=by) if isinstance(value, float) else value
