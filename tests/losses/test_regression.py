"""The regression's error against scikit-learn's kernel ridge regression, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge

from distilset.losses.regression import ridge_error


def drawn(n, m, features, outputs, seed):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, features)), rng.normal(size=(n, outputs))), (
        rng.normal(size=(m, features)),
        rng.normal(size=(m, outputs)),
    )


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    features=st.integers(1, 12),
    outputs=st.integers(1, 4),
    ridge=st.floats(1e-3, 10),
    seed=st.integers(0, 99),
)
def test_the_error_is_that_of_scikit_learn(n, m, features, outputs, ridge, seed):
    (support, known), (query, wanted) = drawn(n, m, features, outputs, seed)
    strength = ridge * (support**2).sum(1).mean()
    model = KernelRidge(alpha=strength, kernel="linear").fit(support, known)
    predicted = model.predict(query).reshape(wanted.shape)
    expected = 0.5 * ((predicted - wanted) ** 2).sum(1).mean()
    found = ridge_error(*map(torch.from_numpy, (support, known, query, wanted)), ridge)
    assert float(found) == pytest.approx(expected, rel=1e-8)


def test_the_gradient_is_a_central_difference():
    (support, known), (query, wanted) = drawn(5, 7, 6, 3, 0)
    known, query, wanted = map(torch.from_numpy, (known, query, wanted))
    leaf = torch.from_numpy(support)
    assert torch.autograd.gradcheck(
        lambda x: ridge_error(x, known, query, wanted, 0.1), leaf.requires_grad_(True)
    )
