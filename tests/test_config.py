import tomllib
from contextlib import suppress
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distilset.config import RunConfig, build, data_config, differences, merge, to_toml
from distilset.errors import ConfigError
from distilset.methods import METHODS
from distilset.plan import make_plan
from distilset.stated import (
    data_source,
    from_flags,
    load_preset,
    parse_settings,
    parse_toml,
    preset_found,
    preset_names,
    preset_title,
)
from distilset.testing import drawn_images
from tests.small import ENGINE, NETWORK, PULL

DATA = {"data": {"source": "drawn"}}


def refusal(*layers) -> str:
    with pytest.raises(ConfigError) as caught:
        build(*layers)
    return str(caught.value)


def test_flag_over_set_over_preset_over_the_methods_default(tmp_path):
    preset = tmp_path / "mine.toml"
    preset.write_text("[method]\nname = 'dm'\n[distill]\nipc = 2\nsteps = 20\nbatch_real = 20\n")
    stated = merge(
        load_preset(str(preset)),
        parse_settings(["distill.ipc=3", "distill.steps=30"]),
        from_flags({"ipc": 4, "seed": None}),
        DATA,
    )
    config = build(stated)
    assert (config.distill.ipc, config.distill.steps, config.distill.batch_real) == (4, 30, 20)
    assert config.distill.seed == 0
    assert build(merge({"method": {"name": "dm"}}, DATA)).distill.batch_real == 256
    assert build(DATA).method_name == "atom"


def test_every_problem_is_told_at_once_by_its_full_name():
    text = refusal(
        DATA,
        {
            "distill": {
                **{"ipc": 0, "stepz": 5, "momentum": 1.0},
                **{"optimizer": "adamw", "schedule": "linear"},
            },
            "network": {"width": 6, "norm": "bach"},
            "engine": {"precision": "fp8", "threads": "two"},
            "augmentation": {"operations": ["flap"]},
            "method": {"power": 1.0, "scale": -1.0},
            "extra": {"key": 1},
        },
    )
    names = (
        *("distill.ipc", "'stepz'", "distill.momentum", "network.width", "network.norm"),
        "distill.optimizer: Input should be 'sgd' or 'adam'; got 'adamw'",
        "distill.schedule: Input should be 'constant' or 'cosine'; got 'linear'",
        *("engine.precision", "engine.threads", "augmentation.operations", "'flap'"),
        *("setting of [method] 'power'", "method.scale", "[extra]", "got 0", "got 'fp8'"),
    )
    for name in names:
        assert name in text, name
    assert "did you mean 'steps'" in text
    assert "\n" not in text


def test_an_unknown_method_does_not_hide_the_other_problems():
    text = refusal(DATA, {"method": {"name": "datdam"}, "distill": {"ipc": -1}})
    assert "did you mean 'datadam'" in text
    assert "distill.ipc" in text


def test_what_must_be_given_is_named_without_its_surroundings():
    assert refusal({}) == "data.source: Field required"


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        ({"distill": 3}, "[distill] must be a table"),
        ({"method": {"name": 3}}, "method.name must be a string"),
        ({"method": {"name": "no.such:Thing"}}, "cannot be imported"),
        ({"method": {"name": ".relative:Thing"}}, "cannot be imported"),
        ({"method": {"name": ":Thing"}}, "cannot be imported"),
        ({"method": {"name": "os:nothing"}}, "cannot be imported"),
        ({"method": {"name": "os:path"}}, "lacks Config, defaults, episode"),
        ({"distill": {"image_lr": float("nan")}}, "distill.image_lr"),
        ({"distill": {"image_lr": float("inf")}}, "distill.image_lr"),
        ({"distill": {"seed": 2**63}}, "distill.seed"),
        ({"distill": {"ipc": True}}, "distill.ipc"),
        ({"distill": {"ipc": 1.5}}, "distill.ipc"),
        ({"data": {"source": "x", "val": 1.0}}, "data.val"),
        ({"data": {"source": "x", "zca": "yes"}}, "data.zca"),
        ({"engine": {"compile": "maybe"}}, "engine.compile"),
    ],
)
def test_bad_settings_are_named(layer, part):
    assert part in refusal(DATA, layer)


@pytest.mark.parametrize("text", ["ipc=3", "distill.ipc", "=3", ".ipc=3", "distill.=3", ""])
def test_malformed_settings_are_refused(text):
    with pytest.raises(ConfigError, match=r"--set takes section\.key=value"):
        parse_settings([text])


def test_settings_are_toml_values_and_bare_words_strings():
    stated = parse_settings(
        ["method.layers=[0, 1]", "method.power = 1.5", "data.zca=true", "distill.init=kcenter"]
    )
    assert stated["method"] == {"layers": [0, 1], "power": 1.5}
    assert stated["data"]["zca"] is True
    assert stated["distill"]["init"] == "kcenter"
    assert parse_settings(["a.b=[" + "[" * 5000])["a"]["b"].startswith("[[")


def test_unknown_flags_and_networks_are_refused_with_a_hint():
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        from_flags({"step": 3})
    with pytest.raises(ConfigError, match="did you mean 'convnet'"):
        from_flags({"network": "convnat"})
    with pytest.raises(ConfigError, match="key=value"):
        from_flags({"network": "convnet:width"})
    text = refusal(DATA, from_flags({"network": "convnet:width=²"}))
    assert "network.width" in text


def test_a_run_written_as_toml_reads_back_the_same():
    for method in METHODS:
        config = build(
            DATA,
            {"method": {"name": method}, "augmentation": {"operations": ["crop"]}},
            {"data": {"source": 'odd "name"\\ é\t.npz', "like": "cifar10"}},
        )
        text = to_toml({**config.tables(), "made": {"torch": "2"}})
        again = build(parse_toml(text, "run.toml"))
        assert again == config
        assert asdict(again.method) == asdict(config.method)


def test_presets_load_build_and_make_a_plan():
    assert preset_names()
    for name in preset_names():
        config = build(load_preset(name), {**DATA, "engine": ENGINE, "network": NETWORK})
        assert isinstance(config, RunConfig)
        assert preset_title(name)
        assert preset_found(name) or not name.startswith("best")
        assert "@" not in preset_found(name)
        stated = merge(load_preset(name), DATA, {"network": NETWORK, "engine": ENGINE})
        stated["distill"]["ipc"] = 1
        make_plan(build(stated), drawn_images((3, 16, 16), (4, 4)))


def test_a_preset_may_be_a_file_but_may_not_name_code(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(f"[method]\nname = '{PULL}'\n")
    with pytest.raises(ConfigError, match="names code to import") as caught:
        load_preset(str(path))
    assert "--method" in str(caught.value)
    assert build(DATA, from_flags({"method": PULL})).method_name == PULL


@pytest.mark.parametrize("name", ["atom-cifr", "missing.toml", "atom-cifar.txt", "", "."])
def test_unknown_presets_are_refused(name):
    with pytest.raises(ConfigError, match="unknown preset"):
        load_preset(name)


def test_files_that_are_no_toml_are_refused(tmp_path):
    path = tmp_path / "bad.toml"
    for content in (b"[a", b"\xff\xfe", b"a = 2000-13-40", b"x = " + b"[" * 5000, b"distill = 3"):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            load_preset(str(path))
        assert len(str(caught.value)) < 400


def test_data_settings_alone_are_checked():
    assert data_config({"source": "x", "val": 0.5}).val == 0.5
    with pytest.raises(ConfigError, match=r"data\.val.*data\.split_seed|split_seed.*val"):
        data_config({"source": "x", "val": 2.0, "split_seed": -1})


def test_paths_of_data_are_kept_absolute_and_names_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert data_source("images") == str(tmp_path / "images")
    assert data_source("digits") == "digits"
    assert data_source("./digits") == str(tmp_path / "digits")
    assert data_source("owner/name") == "owner/name"
    assert data_source("") == ""


def test_differences_name_the_settings_and_both_values():
    old = {"distill": {"ipc": 1, "steps": 3}}
    new = {"distill": {"ipc": 2, "steps": 5}, "data": {"zca": True}}
    found = differences(old, new, ignore=("distill.steps",))
    assert found == ["distill.ipc: 1 -> 2", "data.zca: None -> True"]


words = st.sampled_from(
    ["data", "distill", "method", "network", "engine", "ipc", "name", "source", "width", "layers"]
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5).filter(lambda text: ":" not in text),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(words, st.integers(), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(words, st.one_of(values, st.dictionaries(words, values)), max_size=5))
def test_nothing_but_a_config_error_comes_of_any_tables(tables):
    with suppress(ConfigError):
        build(tables)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_nothing_but_a_config_error_comes_of_any_text(text):
    try:
        parse_toml(text, "it")
    except ConfigError:
        with pytest.raises((ConfigError, ValueError)):
            merge(tomllib.loads(text))
