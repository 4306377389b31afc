import pytest
import torch

from distilset.models import NetworkConfig, build_network, drawing, initialise
from distilset.models.drawing import carry_over
from distilset.rng import Rng
from distilset.types import ImageSpec


def make(norm="batch", **how):
    return build_network(NetworkConfig(width=8, depth=2, norm=norm), ImageSpec(3, 8, 8), 3).to(
        **how
    )


def values(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def places(network):
    return [value.data_ptr() for value in network.state_dict().values()]


@pytest.mark.parametrize("norm", ["batch", "instance", "layer"])
def test_what_was_drawn_is_carried_over_in_place(norm):
    """Between memory formats: by position in the image, not in memory."""
    drawn, other = make(norm), make(norm, memory_format=torch.channels_last)
    initialise(drawn, Rng(0), "weights")
    before = places(other)
    carry_over(drawn, other)
    assert places(other) == before
    for name, value in values(drawn).items():
        assert torch.equal(other.state_dict()[name], value)


def test_elsewhere_than_on_the_cpu_weights_are_drawn_as_on_it(monkeypatch):
    """Pretending that the CPU is elsewhere; twice, to see that the twin is drawn anew."""
    expected = make(memory_format=torch.channels_last)
    network = make(memory_format=torch.channels_last)
    before = places(network)
    for step in (0, 1):
        initialise(expected, Rng(0), "weights", step)
        with monkeypatch.context() as patch:
            patch.setattr(drawing, "_on_cpu", lambda network: False)
            network(torch.randn(4, 3, 8, 8))  # moves the running statistics
            initialise(network, Rng(0), "weights", step)
        for name, value in values(expected).items():
            assert torch.equal(network.state_dict()[name], value), name
    assert places(network) == before


def test_the_twin_goes_with_its_network():
    network = make()
    drawing._twin(network)
    number = len(drawing._TWINS)
    del network
    assert len(drawing._TWINS) == number - 1
