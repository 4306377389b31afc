import numpy as np
import torch

from distilset.selectors.el2n import error_norm


def test_the_norm_is_numpys():
    scores = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2])
    values = scores.double().numpy()
    probabilities = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    expected = np.linalg.norm(probabilities - np.eye(4)[labels.numpy()], axis=1)
    np.testing.assert_allclose(error_norm(scores, labels).numpy(), expected, rtol=1e-5)


def test_from_right_to_wrong():
    scores = torch.tensor([[50.0, 0.0], [0.0, 0.0], [0.0, 50.0]])
    found = error_norm(scores, torch.tensor([0, 0, 0]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.5, 2.0]).sqrt())
