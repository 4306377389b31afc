import pytest

from distilset.errors import ConfigError
from distilset.losses.statistics import Statistic, check_layers, usable

SHAPES = [(8, 4, 4), (8, 1, 1)]


def test_attention_of_a_single_position_is_left_out():
    deep, shallow = Statistic("spatial", 1.0, 1), Statistic("spatial", 1.0, 0)
    assert usable([shallow, deep], SHAPES) == ((shallow,), (deep,))
    assert usable([Statistic("channel", 1.0, 1)], SHAPES)[1] == ()


def test_nothing_left_is_refused():
    with pytest.raises(ConfigError, match="nothing is left to match"):
        usable([Statistic("spatial", 1.0, 1)], SHAPES)
    with pytest.raises(ConfigError, match="nothing is left to match"):
        usable([Statistic("features", 0.0)], SHAPES)


def test_layers():
    assert check_layers(None, 3) == (0, 1)
    assert check_layers(None, 1) == (0,)
    assert check_layers((-1, 0), 3) == (0, 2)
    with pytest.raises(ConfigError, match="layer 3 does not exist; allowed are -3 to 2"):
        check_layers((0, 3), 3)
