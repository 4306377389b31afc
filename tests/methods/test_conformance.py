import pytest

from distilset.testing import check_method


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("dm", {}),
        ("datadam", {}),
        ("datadam", {"power": 1.0, "layers": (0, 1), "scale": 1.0}),
        ("atom", {}),
        ("atom", {"spatial_power": 2.0, "channel_power": 1.0, "mmd_weight": 0.5}),
        ("frepo", {"networks": 1, "age": 3}),
        ("frepo", {"networks": 2, "age": 2, "batch": 5, "momentum": 0.0}),
        ("atom", {"characteristic_weight": 5.0, "frequencies": 7}),
    ],
)
def test_every_method_conforms(method, settings):
    check_method(method, settings)


@pytest.mark.parametrize(
    "settings", [{"lr": 0.5}, {"batch": 2, "updates": 7, "latest": 0, "span": 3}]
)
def test_a_method_that_follows_experts_conforms(settings):
    experts = {"number": 2, "updates": 6, "snapshots": 3}
    check_method("mtt", {"updates": 4, "span": 2, "latest": 1, **settings}, experts=experts)
