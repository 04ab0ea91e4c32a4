"""The contract of kernels."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ..kernels.base import Array, Kernel, Product, ReferenceFeatures, Sum
from .contract import Contract, check_identity, expect, refused


class KernelContract(Contract):
    """Supply a fixture ``kernel``. It is run on ``X [12, 5]`` of length one, two of them equal, and ``Y [7, 5]``."""

    role: ClassVar[str] = "kernel"

    def vectors(self) -> tuple[Array, Array]:
        """``[12, 5]`` unit vectors, two of them equal, and ``[7, 5]`` of any length; override it for others."""
        rows = np.random.default_rng(0).normal(size=(12, 5))
        rows[11] = rows[0]
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows, np.random.default_rng(1).normal(size=(7, 5))

    def ready(self, kernel: Kernel) -> tuple[Kernel, Array, Array]:
        """The kernel, prepared on X; X; Y."""
        x, y = self.vectors()
        return kernel.prepare(ReferenceFeatures(x)), x, y

    def test_identity(self, kernel: Kernel) -> None:
        """Name and parameters identify a run.

        Make it a frozen dataclass with ``name: ClassVar[str]`` in kebab case, and parameters that JSON can hold.
        """
        check_identity("kernel", kernel)

    def test_prepare_returns_a_new_kernel(self, kernel: Kernel) -> None:
        """``prepare(references)`` returns a kernel, leaves this one as it is, and settles once what it settles.

        ``dataclasses.replace(self, bandwidth=…)``; return ``self`` where nothing is left to settle.
        """
        x, y = self.vectors()
        before = repr(kernel)
        ready = kernel.prepare(ReferenceFeatures(x))
        expect(isinstance(ready, Kernel), "a Kernel from prepare", type(ready).__name__)
        expect(repr(kernel) == before, f"prepare to leave {before} as it is", repr(kernel))
        same = np.array_equal(ready(x, y), ready.prepare(ReferenceFeatures(y))(x, y))
        expect(same, "what is settled to stay settled when it is prepared again", "other values")

    def test_shape(self, kernel: Kernel) -> None:
        """Values of ``X [n, D]`` and ``Y [m, D]`` are ``[n, m]``, finite, and the same each time.

        Every pair has a value: ``X @ Y.T`` has the shape. Draw nothing at random.
        """
        ready, x, y = self.ready(kernel)
        values = ready(x, y)
        expect(isinstance(values, np.ndarray), "a NumPy array", type(values).__name__)
        expect(values.shape == (12, 7), "values of shape (n, m) = (12, 7)", values.shape)
        expect(values.dtype.kind == "f", "real values", values.dtype)
        expect(np.isfinite(values).all(), "finite values", "NaN or infinity among them")
        expect(np.array_equal(values, ready(x, y)), "the same values of the same vectors", "others")

    def test_symmetric(self, kernel: Kernel) -> None:
        """``K(x, y) = K(y, x)``.

        Use what is symmetric in x and y: products, distances.
        """
        ready, x, y = self.ready(kernel)
        for one, other in ((ready(x, x), ready(x, x).T), (ready(x, y), ready(y, x).T)):
            _expect_close(one, other, 1e-12, 1e-7, "K(x, y) = K(y, x)")

    def test_positive_semi_definite(self, kernel: Kernel) -> None:
        """The matrix of its values has no negative eigenvalue: it is a kernel.

        Sums and products of kernels, and exp(-distance²), are kernels; a distance, or a cut-off similarity, is none.
        """
        ready, x, y = self.ready(kernel)
        _expect_positive_semi_definite(ready, np.concatenate([x, y]))

    def test_batch_equals_loop(self, kernel: Kernel) -> None:
        """The value of a pair does not depend on the other rows.

        What depends on many vectors (a bandwidth by their median) is settled in ``prepare``.
        """
        ready, x, y = self.ready(kernel)
        loop = np.array([[ready(a[None], b[None])[0, 0] for b in y] for a in x])
        _expect_close(ready(x, y), loop, 1e-9, 1e-9, "each pair alone as among others")

    def test_single_precision(self, kernel: Kernel) -> None:
        """Vectors of float32 give the same values, but for rounding.

        Convert with ``np.asarray(X, float)`` where differences of large numbers matter.
        """
        ready, x, y = self.ready(kernel)
        single = ready(x.astype(np.float32), y.astype(np.float32))
        _expect_close(single, ready(x, y), 1e-4, 1e-3, "float32 and float64 to agree")

    def test_inputs_untouched(self, kernel: Kernel) -> None:
        """The vectors are read, never written.

        Copy before in-place operations (``+=``, ``out=``).
        """
        x, y = self.vectors()
        before = x.copy(), y.copy()
        kernel.prepare(ReferenceFeatures(x))(x, y)
        expect(np.array_equal(x, before[0]) and np.array_equal(y, before[1]), "vectors as they were", "others")

    def test_refuses_vectors_that_do_not_fit(self, kernel: Kernel) -> None:
        """Vectors of other dimensions, and NaN, are refused with a ``ValueError`` that says so.

        scikit-learn's pairwise functions do; else check the shapes and ``np.isfinite``.
        """
        ready, x, y = self.ready(kernel)
        with refused(ValueError, r"(?i)dimension|shape", "Y of four dimensions beside X of five"):
            ready(x, y[:, :4])
        with refused(ValueError, r"(?i)nan|finite", "NaN"):
            ready(x, np.full_like(y, np.nan))

    def test_sum_and_product(self, kernel: Kernel) -> None:
        """It adds and multiplies with other kernels.

        Leave ``__add__`` and ``__mul__`` as the base class has them.
        """
        ready, x, y = self.ready(kernel)
        values = ready(x, y)
        for composite, expected in ((kernel + kernel, values + values), (kernel * kernel, values * values)):
            expect(isinstance(composite, Sum | Product), "a Sum or a Product", type(composite).__name__)
            check_identity("kernel", composite)
            prepared = composite.prepare(ReferenceFeatures(x))
            _expect_close(prepared(x, y), expected, 0, 1e-7, f"{composite.name} of the values")
            _expect_positive_semi_definite(prepared, x)


def _expect_close(values: Array, wanted: Array, atol: float, rtol: float, what: str) -> None:
    same = values.shape == wanted.shape and np.allclose(values, wanted, atol=atol, rtol=rtol)
    expect(same, what, "other values")


def _expect_positive_semi_definite(kernel: Kernel, x: Array) -> None:
    eigenvalues = np.linalg.eigvalsh(kernel(x, x))
    lowest = eigenvalues.min()
    expect(lowest >= -1e-9 * max(eigenvalues.max(), 1), "no negative eigenvalue of K(X, X)", f"{lowest:.3g}")
