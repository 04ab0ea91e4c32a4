"""A cap on one reference's share of the weight: by hand, and whatever the kernel."""

import numpy as np
import pytest
from c3po_poison.capped import Capped, capped

from c3po_adaptive.errors import PluginError, SettingError
from c3po_adaptive.kernels import Gaussian
from c3po_adaptive.kernels.base import ReferenceFeatures
from c3po_adaptive.remixing.strategy_results import check_shares


@pytest.mark.parametrize(
    ("shares", "cap", "wanted"),
    [
        ([0.8, 0.1, 0.1], 0.5, [0.5, 0.25, 0.25]),
        ([0.8, 0.15, 0.05], 0.4, [0.4, 0.4, 0.2]),  # the second is above the cap with what the first gave away
        ([0.3, 0.3, 0.4], 0.5, [0.3, 0.3, 0.4]),
        ([0.9, 0.1, 0.0, 0.0], 0.3, [0.5, 0.5, 0.0, 0.0]),  # two cannot both be below
        ([0.0, 0.0], 0.3, [0.0, 0.0]),
        ([], 0.3, []),
    ],
)
def test_what_is_above_it_is_shared_out_in_proportion(shares, cap, wanted):
    np.testing.assert_allclose(capped(np.array(shares), cap), wanted)


def test_none_is_above_it_whatever_the_values():
    drawn = np.random.default_rng(0)
    for _ in range(200):
        values = np.exp(drawn.normal(size=drawn.integers(11, 40)) * drawn.uniform(0.1, 8))
        found = Capped(cap=0.1).shares(values)
        assert found.max() <= 0.1 + 1e-9 and found.sum() == pytest.approx(1)
        assert (np.diff(found[np.argsort(values)]) >= -1e-12).all(), "the order stays"


def test_values_are_those_of_the_kernel_inside():
    x = np.random.default_rng(1).normal(size=(5, 3))
    own, wrapped = (kernel.prepare(ReferenceFeatures(x)) for kernel in (Gaussian("median"), Capped(Gaussian("median"))))
    assert np.array_equal(own(x, x), wrapped(x, x))
    np.testing.assert_allclose(own.shares(own(x, x)[0]).sum(), 1)


@pytest.mark.parametrize(("given", "said"), [({"cap": 0}, "capped.cap"), ({"cap": 1.1}, "capped.cap"),
                                             ({"of": "gaussian"}, "capped.of to be a Kernel")])  # fmt: skip
def test_what_is_no_cap_is_refused(given, said):
    with pytest.raises(SettingError, match=said):
        Capped(**given)


@pytest.mark.parametrize("shares", [np.array([0.5, 0.6]), np.array([1.5, -0.5]), [0.5, 0.5], np.array([np.nan, 1])])
def test_shares_that_are_none_are_refused(shares):
    with pytest.raises(PluginError, match="Expected kernel 'gaussian' to give 2 shares >= 0 that sum to one"):
        check_shares(shares, 2, Gaussian())
