import pickle

import pytest
import torch

from distilset.errors import ConfigError
from distilset.models import NetworkConfig, build_network, code_digest, initialise, network_table
from distilset.rng import Rng
from distilset.types import ImageSpec
from tests.models import nets

SPEC = ImageSpec(3, 8, 8)
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OWN = "tests.models.nets"


def own(text):
    return build_network(NetworkConfig(**network_table(f"{OWN}:{text}")), SPEC, 5)


@pytest.mark.parametrize("maps", ["layer1+layer2", "layer2+layer1", "layer1.1+layer2.1", "ReLU"])
def test_hooks_catch_what_is_named_in_the_order_of_the_forward_pass(maps):
    network = own(f"Plain:width=12,maps={maps}")
    initialise(network, Rng(0), "weights")
    twin = nets.WithFeatures(SPEC, 5, 12)
    initialise(twin, Rng(0), "weights")
    found, expected = network.features(IMAGES), twin.features(IMAGES)
    assert len(found.maps) == 2
    for one, other in zip((*found.maps, found.last), (*expected.maps, expected.last), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(network(IMAGES), twin(IMAGES))


def test_hooks_hold_no_tensor_after_a_pass():
    network = own("Plain:maps=ReLU")
    network(IMAGES)
    network.features(IMAGES)
    assert not any(catch.caught for catch in [*network.maps, network.last])  # pyright: ignore


def test_features_of_its_own_are_used():
    network = own("WithFeatures")
    assert type(network) is nets.WithFeatures
    with pytest.raises(ConfigError, match="takes no maps="):
        own("WithFeatures:maps=ReLU")


def test_the_last_layer_can_be_named():
    network = own("Convolutional:last=scores")
    assert network.features(IMAGES).last.shape == (4, 8)
    assert network.features(IMAGES).maps == ()
    with pytest.raises(ConfigError, match=r"no nn\.Linear.*last="):
        own("Convolutional")


def test_attention_modules_are_drawn_anew():
    network = own("WithAttention")
    before = network.network.mix.in_proj_weight.clone()
    initialise(network, Rng(0), "weights")
    assert not torch.equal(before, network.network.mix.in_proj_weight)


def test_a_network_that_draws_its_parts_has_the_last_word():
    network = own("Normed")
    initialise(network, Rng(0), "weights")
    assert 0.3 < float(network.network.layer2[0].weight.detach().std()) < 0.7


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("Plane", "cannot be imported"),
        ("Plain:depth=3", "cannot be built as Callable"),
        ("Plain:maps=layer3", "no layer 'layer3'; allowed are layer1.0, .*kinds Conv2d"),
        ("Plain:maps=head", "the output of head is no map"),
        ("Plain:width", "key=value"),
        ("WithDropout", "drop drops out by global randomness"),
        ("WithLooseParameter", "parameter gain cannot be drawn anew: WithLooseParameter needs"),
        ("wrong_scores", r"must give scores \[2, 5\] of 2; got \[2, 6\]"),
        ("not_a_module", r"must give an nn\.Module; got int"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(text, part):
    with pytest.raises(ConfigError, match=part) as refusal:
        own(text)
    assert "\n" not in str(refusal.value)


def test_dropout_of_zero_is_no_dropout():
    own("WithDropout:p=0")


def test_missing_modules_are_refused():
    with pytest.raises(ConfigError, match="cannot be imported"):
        build_network(NetworkConfig(name="no.such:Thing"), SPEC, 2)


def test_the_digest_tells_code_apart_that_has_the_same_text():
    one, same, other = own("Scaled"), own("Scaled:scale=1"), own("Scaled:scale=2")
    assert repr(one) == repr(other)
    digests = [code_digest(network, SPEC) for network in (one, same, other)]
    assert digests[0] == digests[1] != digests[2]
    assert code_digest(build_network(NetworkConfig(width=8), SPEC, 2), SPEC) is None


def test_a_hooked_network_can_be_sent_to_another_process():
    network = own("Plain:maps=ReLU")
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again.features(IMAGES).maps[1], network.features(IMAGES).maps[1])
