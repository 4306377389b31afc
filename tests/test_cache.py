import pytest
from filelock import FileLock

from distilset.cache import KINDS, cache_folder, cache_root, canonical, clear, entries
from distilset.data import load_data
from distilset.errors import ConfigError
from tests.data.conftest import make_folder  # noqa: F401
from tests.small import call, distil, refused, tree


def fill():
    for kind, name in (("whole", "a.json"), ("transforms", "z.safetensors")):
        (cache_folder(kind) / name).write_bytes(b"12345")
    (cache_folder("banks") / "b").mkdir()
    (cache_folder("banks") / "b" / "features.f16").write_bytes(b"1234567")
    (cache_root() / "mine").mkdir()
    (cache_root() / "mine" / "notes.txt").write_text("not the cache's")


def test_every_kind_that_is_kept_is_listed(make_folder):  # noqa: F811
    load_data(make_folder({"a": 3, "b": 3}), mapped=True)
    distil(settings={"data": {"zca": True}}, bank=2, out=cache_root() / "run")
    kept = {path.name for path in cache_root().iterdir()} - {"run"}
    assert {"mapped", "banks"} <= kept <= {*KINDS}
    found = {entry.kind: entry for entry in entries()}
    assert found["mapped"].bytes > 6 * 192
    assert found["mapped"].about.endswith("images (own size)")


def test_clearing_one_kind_and_all(make_folder):  # noqa: F811
    fill()
    removed, used = clear("banks")
    assert ([entry.bytes for entry in removed], used) == ([7], [])
    assert [entry.kind for entry in entries()] == ["transforms", "whole"]
    train = load_data(make_folder({"a": 3, "b": 3}), mapped=True).train
    clear()
    assert entries() == []
    assert tree(cache_root()) == {"mine/notes.txt": b"not the cache's"}
    assert train.images.numel() > 0
    int(train.images.sum())  # who has the map open still reads it


def test_what_is_in_use_is_left():
    fill()
    with FileLock(cache_folder("banks") / "b" / "lock"):
        removed, used = clear()
    assert [entry.kind for entry in removed] == ["transforms", "whole"]
    assert [entry.kind for entry in used] == ["banks"]


def test_links_are_removed_and_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (cache_folder("banks") / "link").symlink_to(tmp_path / "precious")
    clear()
    assert tree(tmp_path / "precious") == {"file": b"x"}
    assert entries() == []


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match=r"unknown kind of cache 'bank'.*did you mean 'banks'"):
        clear("bank")


def test_what_could_not_be_listed_is_not_kept():
    with pytest.raises(KeyError, match="'refrence' is no kind of cache"):
        cache_folder("refrence")
    assert not (cache_root() / "refrence").exists()
    for kind in KINDS:
        (cache_folder(kind) / "x.lock" if kind == "locks" else cache_folder(kind) / "x").touch()
    assert {entry.kind for entry in entries()} == {*KINDS}
    clear()
    assert entries() == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"facts": {"size": 3, "source": "x"}}', "[]"])
def test_a_damaged_header_is_listed_without_what_it_is_of(text):
    (cache_folder("mapped") / "m").mkdir()
    (cache_folder("mapped") / "m" / "header.json").write_text(text)
    assert [entry.about for entry in entries()] == [""]


def test_a_name_does_not_depend_on_the_order_of_facts():
    assert canonical({"a": 1, "b": [2]}) == canonical({"b": [2], "a": 1})


def test_the_command_lists_and_clears(capsys, make_folder):  # noqa: F811
    fill()
    load_data(make_folder({"a[b]": 3, "c": 3}, name="da[red]ta"), mapped=True, resolution=4)
    code, out, _ = call(capsys, "cache")
    assert code == 0
    for text in ("banks", "z.safetensors", "da[red]ta (4x4)", "4 entries", str(cache_root())):
        assert text in out
    message = refused(capsys, "cache", "clear")
    assert f"{cache_root()}: 4 entries" in message
    assert "--yes" in message
    assert len(entries()) == 4
    assert "did you mean 'mapped'" in refused(capsys, "cache", "clear", "maped", "--yes")
    code, out, _ = call(capsys, "cache", "clear", "whole", "--yes")
    assert code == 0
    assert "1 entries removed" in out
    call(capsys, "cache", "clear", "--yes")
    assert entries() == []
    assert "0 entries" in call(capsys, "cache")[1]
    assert "unknown action 'clean'" in refused(capsys, "cache", "clean")


def test_a_run_says_that_it_maps_and_evaluation_opens_the_map(capsys, make_folder, tmp_path):  # noqa: F811
    from tests.small import ARGS

    data = make_folder({"a": 9, "b": 9})
    command = ["distill", data, "--out", tmp_path / "run", "--steps", 2, *ARGS]
    code, _, err = call(capsys, *command, "--mapped")
    assert code == 0, err
    assert "note: 18 images are decoded once, to 0.0 MB in" in err
    assert "read from a memory map" in " ".join(err.replace("│", " ").split())
    code, _, err = call(capsys, *command[:3], tmp_path / "other", *command[4:], "--no-mapped")
    assert code == 0, err
    assert "memory map" not in " ".join(err.replace("│", " ").split())
    first, second = ((tmp_path / n / "distilled.safetensors") for n in ("run", "other"))
    assert first.read_bytes() == second.read_bytes()
    code, _, err = call(capsys, *command, "--no-mapped", "--resume")
    assert code == 0, err
    for path in data.rglob("*.png"):
        path.touch()  # a new map is announced, if one is wanted
    fast = ("--epochs", 1, "--trials", 1, "--device", "cpu")
    assert "decoded once" in call(capsys, "evaluate", tmp_path / "run", *fast)[2]
    assert "decoded once" not in call(capsys, "evaluate", tmp_path / "other", *fast)[2]
