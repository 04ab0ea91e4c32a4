"""Kernels: the contract, and formulas against closed forms."""

import numpy as np
import pytest

from c3po_adaptive.errors import DataError, SettingError
from c3po_adaptive.kernels import Gaussian, Kernel, Linear, Matern, Polynomial
from c3po_adaptive.kernels._stationary import median_distance
from c3po_adaptive.kernels.base import Product, ReferenceFeatures, Sum
from c3po_adaptive.testing import KernelContract

KERNELS = [
    Gaussian(),
    Gaussian("median"),
    Matern(),
    Matern("median"),
    Matern(1.0, nu=0.5),
    Matern(0.7, nu=2.2),
    Polynomial(),
    Polynomial(degree=3, coef0=0.0, gamma=0.5),
    Linear(),
    Gaussian() + Linear(),
    Gaussian("median") * Polynomial() + Matern(),
]


class TestKernels(KernelContract):
    @pytest.fixture(params=KERNELS, ids=repr)
    def kernel(self, request: pytest.FixtureRequest) -> Kernel:
        return request.param


@pytest.fixture
def x():
    return np.random.default_rng(2).normal(size=(6, 3))


@pytest.fixture
def y():
    return np.random.default_rng(3).normal(size=(4, 3))


def distance(x, y):
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1))


def test_gaussian_is_its_formula(x, y):
    np.testing.assert_allclose(Gaussian(0.8)(x, y), np.exp(-(distance(x, y) ** 2) / (2 * 0.8**2)))


@pytest.mark.parametrize(
    ("nu", "formula"),
    [
        (0.5, lambda r: np.exp(-r)),
        (1.5, lambda r: (1 + np.sqrt(3) * r) * np.exp(-np.sqrt(3) * r)),
        (2.5, lambda r: (1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r)),
    ],
)
def test_matern_is_its_formula(x, y, nu, formula):
    np.testing.assert_allclose(Matern(0.8, nu=nu)(x, y), formula(distance(x, y) / 0.8))


def test_matern_nears_gaussian_as_it_gets_smoother(x, y):
    np.testing.assert_allclose(Matern(2.0, nu=80)(x, y), Gaussian(2.0)(x, y), atol=0.02)


def test_polynomial_and_linear_are_their_formulas(x, y):
    np.testing.assert_allclose(Polynomial(3, coef0=0.5, gamma=2.0)(x, y), (2 * x @ y.T + 0.5) ** 3)
    np.testing.assert_allclose(Polynomial()(x, y), (x @ y.T + 1) ** 2)
    np.testing.assert_allclose(Linear()(x, y), x @ y.T)


def test_sums_and_products_settle_the_medians_of_their_parts(x, y):
    kernel = (Gaussian("median") + Linear()) * Matern("median")
    median = median_distance(x)
    np.testing.assert_allclose(
        kernel.prepare(ReferenceFeatures(x))(x, y), (Gaussian(median)(x, y) + Linear()(x, y)) * Matern(median)(x, y)
    )


@pytest.mark.parametrize("pair", [Sum, Product])
def test_parts_that_do_not_learn_are_prepared_on_texts_alone(pair, x):
    seen = {}

    class Plain(Gaussian):
        def prepare(self, references):
            seen[self.learns] = references
            return self

    class Learning(Plain):
        learns = True

    both = ReferenceFeatures(x, {"state": x})
    pair(Learning(), Plain()).prepare(both)
    assert seen[True] is both
    assert seen[False].text is x
    assert not seen[False].known


def test_median_is_that_of_all_pairs(x):
    pairs = distance(x, x)[np.triu_indices(len(x), 1)]
    assert median_distance(x) == pytest.approx(np.median(pairs))
    assert Gaussian("median").prepare(ReferenceFeatures(x)) == Gaussian(median_distance(x))


def test_median_of_many_is_that_of_a_seeded_sample():
    many = np.random.default_rng(4).normal(size=(300, 3))
    sampled = median_distance(many, sample=100)
    assert sampled == median_distance(many, sample=100)
    assert sampled == pytest.approx(median_distance(many), rel=0.1)


@pytest.mark.parametrize("kernel", [Gaussian("median"), Matern("median"), Gaussian("median") + Linear()])
def test_median_asks_to_be_prepared(kernel, x, y):
    with pytest.raises(SettingError, match=r"kernel\.prepare\(references\)"):
        kernel(x, y)


def test_median_needs_references_that_differ(x):
    with pytest.raises(DataError, match="at least two"):
        Gaussian("median").prepare(ReferenceFeatures(x[:1]))
    with pytest.raises(DataError, match="duplicates"):
        Gaussian("median").prepare(ReferenceFeatures(np.ones((5, 3))))
    with pytest.raises(DataError, match="nan"):
        Gaussian("median").prepare(ReferenceFeatures(np.full((5, 3), np.nan)))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Gaussian(0.0), r"gaussian\.length_scale .*> 0, or 'median', got 0\.0"),
        (lambda: Gaussian("mean"), r"gaussian\.length_scale .*'mean'"),
        (lambda: Gaussian(float("nan")), r"gaussian\.length_scale .*nan"),
        (lambda: Matern(-1.0), r"matern\.length_scale"),
        (lambda: Matern(1.0, nu=0), r"matern\.nu"),
        (lambda: Polynomial(degree=1.5), r"polynomial\.degree .*a whole number >= 1, got 1\.5"),
        (lambda: Polynomial(degree=True), r"polynomial\.degree"),
        (lambda: Polynomial(coef0=-1.0), r"polynomial\.coef0"),
        (lambda: Polynomial(gamma=0.0), r"polynomial\.gamma"),
    ],
)
def test_settings_are_checked(make, field):
    with pytest.raises(SettingError, match=field):
        make()
