"""The contract of kernels."""

from __future__ import annotations

import numpy as np
import pytest

from ..kernels.base import Array, Kernel, Product, Sum
from .contract import Contract, check_identity


class KernelContract(Contract):
    """Supply a fixture ``kernel``."""

    @pytest.fixture
    def x(self) -> Array:
        """``[12, 5]`` unit vectors, two of them equal."""
        rows = np.random.default_rng(0).normal(size=(12, 5))
        rows[11] = rows[0]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    @pytest.fixture
    def y(self) -> Array:
        """``[7, 5]`` vectors of any length."""
        return np.random.default_rng(1).normal(size=(7, 5))

    @pytest.fixture
    def ready(self, kernel: Kernel, x: Array) -> Kernel:
        return kernel.prepare(x)

    def test_identity(self, kernel: Kernel) -> None:
        check_identity("kernel", kernel)

    def test_prepare_returns_a_new_kernel(self, kernel: Kernel, x: Array, y: Array) -> None:
        before = repr(kernel)
        ready = kernel.prepare(x)
        assert isinstance(ready, Kernel)
        assert repr(kernel) == before
        assert np.array_equal(ready(x, y), ready.prepare(y)(x, y)), "what is settled stays settled"

    def test_shape(self, ready: Kernel, x: Array, y: Array) -> None:
        values = ready(x, y)
        assert values.shape == (12, 7)
        assert np.isfinite(values).all()
        assert np.array_equal(values, ready(x, y)), "the same vectors, the same values"

    def test_symmetric(self, ready: Kernel, x: Array, y: Array) -> None:
        np.testing.assert_allclose(ready(x, x), ready(x, x).T, atol=1e-12)
        np.testing.assert_allclose(ready(x, y), ready(y, x).T, atol=1e-12)

    def test_positive_semi_definite(self, ready: Kernel, x: Array, y: Array) -> None:
        _assert_positive_semi_definite(ready, np.concatenate([x, y]))

    def test_batch_equals_loop(self, ready: Kernel, x: Array, y: Array) -> None:
        loop = [[ready(a[None], b[None])[0, 0] for b in y] for a in x]
        np.testing.assert_allclose(ready(x, y), loop, rtol=1e-9, atol=1e-9)

    def test_single_precision(self, ready: Kernel, x: Array, y: Array) -> None:
        single = ready(x.astype(np.float32), y.astype(np.float32))
        np.testing.assert_allclose(single, ready(x, y), rtol=1e-3, atol=1e-4)

    def test_inputs_untouched(self, kernel: Kernel, x: Array, y: Array) -> None:
        before = x.copy(), y.copy()
        kernel.prepare(x)(x, y)
        assert np.array_equal(x, before[0])
        assert np.array_equal(y, before[1])

    def test_refuses_vectors_that_do_not_fit(self, ready: Kernel, x: Array, y: Array) -> None:
        with pytest.raises(ValueError, match=r"(?i)dimension|shape"):
            ready(x, y[:, :4])
        with pytest.raises(ValueError, match=r"(?i)nan|finite"):
            ready(x, np.full_like(y, np.nan))

    def test_sum_and_product(self, kernel: Kernel, ready: Kernel, x: Array, y: Array) -> None:
        values = ready(x, y)
        for composite, expected in ((kernel + kernel, values + values), (kernel * kernel, values * values)):
            assert isinstance(composite, Sum | Product)
            check_identity("kernel", composite)
            prepared = composite.prepare(x)
            np.testing.assert_allclose(prepared(x, y), expected)
            _assert_positive_semi_definite(prepared, x)


def _assert_positive_semi_definite(kernel: Kernel, x: Array) -> None:
    eigenvalues = np.linalg.eigvalsh(kernel(x, x))
    assert eigenvalues.min() >= -1e-9 * max(eigenvalues.max(), 1), f"{kernel} has a negative eigenvalue"
