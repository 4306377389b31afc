import pytest

from distilset.apps.fitting import choose, levels_of, member_costs
from distilset.apps.space import Member, factorial, get_space
from distilset.augment import AugmentConfig
from distilset.errors import ConfigError
from distilset.models import NetworkConfig, network_config, network_table
from distilset.training.protocols import WHOLE
from distilset.types import ImageSpec

CONVNET = {"name": "convnet"}
NUMBER, NUMBERS = 3, [3]
LISTED = ["convnet:width=8", "mlp"]


def fits(given, side=32, **options):
    return choose(get_space(given, CONVNET), ImageSpec(3, side, side), 10, **options)


def test_the_papers_space_fits_32_pixels():
    chosen = fits("convnet720")
    assert (len(chosen.members), chosen.left_out, chosen.fitting) == (720, (), 720)
    assert len({member.name for member in chosen.members}) == 720


def test_poolings_that_pixels_do_not_allow_are_left_out_counted_and_named():
    chosen = fits("convnet720", 8)
    assert (len(chosen.members), len(chosen.left_out)) == (480, 240)
    name, why = chosen.left_out[0]
    assert "depth=3" in name
    assert why == "depth 3 with pooling needs images of 16x16"
    assert len(chosen.reasons()) == 2
    assert all(reason.startswith("120 left out") for reason in chosen.reasons())
    stays = [m for m in chosen.members if m.network.depth == 4]
    assert {member.network.pooling for member in stays} == {"none"}


def test_a_sample_of_what_fits_is_in_balance():
    chosen = fits("convnet720", 8, sample=24)
    assert len(chosen.members) == 24
    for name, levels in levels_of(chosen.members).items():
        counts = [levels.count(level) for level in sorted(set(levels))]
        if name in ("norm", "activation", "width"):
            assert max(counts) - min(counts) <= 1, name


@pytest.mark.parametrize("sample", [1, 481])
def test_a_sample_that_cannot_be_is_refused(sample):
    with pytest.raises(ConfigError, match="--sample must be from 2 to 480"):
        fits("convnet720", 8, sample=sample)


def test_names_are_read_back_to_the_same_network():
    for member in fits("convnet720", sample=30).members:
        assert network_config(network_table(member.name)) == member.network


def test_fewer_than_two_networks_that_fit_are_refused():
    with pytest.raises(ConfigError, match=r"1 of the 2 in space own fit .*vit:"):
        fits(["convnet", "vit:width=64,heads=7"], 32)
    with pytest.raises(ConfigError, match="two networks or more; 1 of the 1"):
        fits(["convnet", "convnet:depth=3"])  # the same at 32 pixels


def test_a_list_of_ones_own():
    members = fits([NetworkConfig(width=8), "convnet:width=16", Member(NetworkConfig(), lr=0.1)])
    assert [m.network.width for m in members.members] == [8, 16, 128]
    assert members.members[2].name.endswith("; lr=0.1")
    assert fits(iter(LISTED)).fitting == 2


def test_a_space_by_module_and_function():
    assert [m.network.name for m in fits(f"{__name__}:LISTED").members] == ["convnet", "mlp"]
    with pytest.raises(ConfigError, match="cannot be imported"):
        get_space("no.such:thing", CONVNET)
    with pytest.raises(ConfigError, match="must give a list of networks"):
        get_space(f"{__name__}:NUMBER", CONVNET)


def test_settings_of_training_take_the_place_of_the_protocols():
    plain, changed = (
        Member(NetworkConfig()),
        Member(NetworkConfig(), 0.5, 0.0, "crop+scale"),
    )
    assert plain.protocol(WHOLE) == WHOLE
    protocol = changed.protocol(WHOLE)
    assert (protocol.lr, protocol.weight_decay, protocol.augment) == (0.5, 0.0, True)
    assert changed.operations(AugmentConfig()).operations == ("crop", "scale")
    assert not Member(NetworkConfig(), augmentation="none").protocol(WHOLE).augment


def test_hyper_is_about_the_network_it_is_given():
    space = get_space("hyper", {"name": "mlp"})
    assert len(space.members) == 60
    assert {member.network.name for member in space.members} == {"mlp"}


def test_a_space_from_a_file(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("network = 'convnet:width=8'\n[factors]\nlr = [0.1, 0.2]\ndepth = [1, 2, 3]\n")
    assert len(get_space(str(file), CONVNET).members) == 6
    file.write_text("network = 'os:system'\n[factors]\nlr = [0.1]\n")
    with pytest.raises(ConfigError, match="which a file may not"):
        get_space(str(file), CONVNET)
    for text in (
        "lr = 3",
        "[factors]\nlr = 0.1",
        "[factors]\nspeed = [1]",
        "x",
        "[factors]\nlr=[]",
    ):
        file.write_text(text)
        with pytest.raises(ConfigError):
            get_space(str(file), CONVNET)


def test_a_space_of_billions_is_refused():
    with pytest.raises(ConfigError, match="more than 100,000 combinations"):
        factorial("own", CONVNET, {f: [0.1] * 99 for f in ("lr", "weight_decay", "width")})


def test_bad_words_are_refused():
    with pytest.raises(ConfigError, match=r"unknown space 'convnet72'.*did you mean 'convnet720'"):
        get_space("convnet72", CONVNET)
    with pytest.raises(ConfigError, match="one network; got a pool"):
        get_space(["convnet,mlp"], CONVNET)
    with pytest.raises(ConfigError, match="texts like"):
        get_space(f"{__name__}:NUMBERS", CONVNET)
    for factors in ({"lr": [0.0]}, {"lr": [-1]}, {"weight_decay": ["x"]}, {"augmentation": ["x"]}):
        with pytest.raises(ConfigError):
            factorial("own", CONVNET, factors)


def test_larger_networks_cost_more():
    members = fits(["convnet:width=8", "convnet:width=64", "convnet:width=64,pooling=none"]).members
    costs = list(member_costs(members, ImageSpec(3, 32, 32), 10).values())
    assert costs == sorted(costs)
    assert costs[0] < costs[1] / 4
    wide = member_costs(fits(["convnet:width=256,depth=2,pooling=none", "mlp"]).members,
                        ImageSpec(3, 32, 32), 10)  # fmt: skip
    assert max(wide.values()) > 3 * 2 * 9 * 256 * 256 * 1024  # the second layer alone
