import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from filelock import FileLock

from distilset.cache import cache_folder
from distilset.data import KNOWN, blocks, fit_transform, header, load_data, making, mapped
from distilset.errors import ConfigError, DataError
from distilset.hardware import memory_bytes
from tests.data.test_hub import make_dataset, png


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks, although there are a few images only."""
    monkeypatch.setattr(blocks, "BLOCK", 4)


def entries():
    return [path for path in cache_folder("mapped").iterdir() if path.is_dir()]


def check_same(mapped_one, in_memory):
    for role in ("train", "val", "test"):
        first, second = getattr(mapped_one, role), getattr(in_memory, role)
        assert (first is None) == (second is None), role
        if first is None:
            continue
        assert first.mapped
        assert not second.mapped
        assert torch.equal(first.images, second.images)
        assert replace(first, images=second.images, mapped=False) == second
        assert first.digest == second.digest
        assert first.labels.equal(second.labels)


def both(source, **settings):
    in_memory = load_data(source, mapped=False, **settings)
    check_same(load_data(source, mapped=True, **settings), in_memory)  # made
    check_same(load_data(source, mapped=True, **settings), in_memory)  # opened
    return in_memory


@pytest.mark.parametrize("val", [0.0, 0.25])
@pytest.mark.parametrize("official", [True, False])
def test_a_mapped_folder_is_the_same_as_one_in_memory(make_folder, val, official):
    root = make_folder({"10": 7, "9": 5, "a": 9}, "train" if official else "")
    if official:
        make_folder({"10": 3, "9": 0, "a": 2}, "test")
    splits = both(root, val=val, split_seed=3)
    assert splits.info.test_part == ("official" if official else "carved")


def test_sizes_grey_images_and_padding(make_folder):
    both(make_folder({"a": 6, "b": 5}), resolution=6)
    grey = make_folder({"a": 6, "b": 5}, name="grey", height=28, width=28, channels=1)
    splits = both(grey)
    assert splits.train.spec.shape == (1, 32, 32)
    both(make_folder({"a": 1, "b": 1}, name="one"))  # no test part can be carved
    both(make_folder({"a": 6, "b": 5}, name="like"), like="cifar10")


def test_unreadable_images_are_left_out_in_the_same_way(make_folder):
    root = make_folder({"a": 40, "b": 30, "c": 20})
    for name in ("a/0.png", "b/7.png", "c/19.png"):
        (root / name).write_bytes(b"damaged")
    splits = both(root, val=0.2)
    assert splits.info.skipped == ("a/0.png", "b/7.png", "c/19.png")
    for i in range(10):
        (root / "a" / f"{i}.png").write_bytes(b"damaged")
    messages = []
    for choice in (True, False):
        with pytest.raises(DataError, match="at most 5 %") as caught:
            load_data(root, mapped=choice)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_no_text(make_folder):
    root = make_folder({"a": 30, "b": 5})
    (root / "a" / os.fsdecode(b"\xff\n.png")).write_bytes(b"damaged")
    assert both(root).info.skipped == ("a/\udcff\n.png",)
    notes: list[str] = []
    load_data(root, mapped=True, note=notes.append)
    assert notes == []


def test_errors_are_those_of_memory(make_folder, tmp_path):
    mixed = make_folder({"a": 6, "b": 6})
    (mixed / "b" / "5.png").write_bytes(png(0, (9, 9))[0])
    single = make_folder({"a": 1, "b": 1}, name="single")
    bad = make_folder({"a": 2}, name="bad")
    (bad / "a" / "0.png").write_bytes(b"")
    (bad / "a" / "1.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for source, settings in (
        (mixed, {}),
        (single, {"val": 0.5}),
        (bad, {}),
        (tmp_path / "empty", {}),
    ):
        messages = []
        for choice in (True, False):
            with pytest.raises((DataError, ConfigError)) as caught:
                load_data(source, mapped=choice, **settings)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    assert load_data(mixed, mapped=True, resolution=8).train.counts == (5, 5)


def test_tables_in_any_order_and_subsets_of_classes(tmp_path, monkeypatch):
    folder = tmp_path / "imagenet-1k"
    folder.mkdir()
    labels = list(np.random.default_rng(0).integers(0, 3, 30))
    make_dataset([int(v) for v in labels]).to_parquet(folder / "train-0.parquet")
    both(folder, val=0.2)
    both(folder / "train-0.parquet")
    monkeypatch.setenv("DISTILSET_DATA", str(tmp_path))
    for name, subset in (("imagenette", (2, 0)), ("imagewoof", (0, 1))):
        monkeypatch.setitem(KNOWN, name, replace(KNOWN[name], class_subset=subset, resolution=4))
    assert both("imagenette").train.classes == ("bird", "airplane")
    both("imagewoof")
    assert len(entries()) == 4


def test_large_data_are_mapped_by_rule_and_small_ones_are_not(make_folder, monkeypatch):
    root = make_folder({"a": 6, "b": 5})
    bytes_of = 11 * 3 * 8 * 8
    assert not load_data(root).train.mapped
    monkeypatch.setattr(mapped, "MOST", bytes_of)
    assert not load_data(root).train.mapped
    assert not load_data(root, resolution=8).train.mapped
    monkeypatch.setattr(mapped, "MOST", bytes_of - 1)
    assert load_data(root).train.mapped
    assert load_data(root, resolution=8).train.mapped
    assert not load_data(root, resolution=4).train.mapped
    assert not load_data(root, mapped=False).train.mapped
    monkeypatch.setattr(mapped, "MOST", 1 << 60)
    monkeypatch.setattr(mapped, "memory_bytes", lambda: 8 * bytes_of - 8)
    assert load_data(root).train.mapped
    monkeypatch.setattr(mapped, "memory_bytes", lambda: None)
    assert not load_data(root).train.mapped


def test_arrays_cannot_be_mapped():
    with pytest.raises(ConfigError, match="digits comes as an array"):
        load_data("digits", mapped=True)
    assert load_data("digits", mapped=False).train.counts


def test_what_is_told(make_folder):
    root, notes = make_folder({"a": 6, "b": 5}), []
    load_data(root, mapped=True, note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("11 images are decoded once, to 0.0 MB in ")
    load_data(root, mapped=True, note=notes.append)
    assert len(notes) == 1


def decoded(monkeypatch):
    """Return a list that gets the names of all images that are decoded from now on."""
    seen, read = [], blocks.Canvas.read

    def spy(self, source):
        seen.append(getattr(source, "name", "bytes"))
        return read(self, source)

    monkeypatch.setattr(blocks.Canvas, "read", spy)
    return seen


def interrupt(root, monkeypatch, after=2, **settings):
    """Make a map and end it after some blocks."""
    add = making.Worklog.add

    def fail(self, block):
        if len(self.noted) == after:
            raise KeyboardInterrupt
        add(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(making.Worklog, "add", fail)
        with pytest.raises(KeyboardInterrupt):
            load_data(root, mapped=True, **settings)


def test_an_interrupted_map_goes_on_where_it_was(make_folder, monkeypatch):
    root = make_folder({"a": 12, "b": 9})
    (root / "a" / "1.png").write_bytes(b"damaged")
    in_memory = load_data(root, mapped=False, resolution=8)
    interrupt(root, monkeypatch, resolution=8)
    log = entries()[0] / "unfinished.jsonl"
    log.write_text(log.read_text() + '{"number": 2, "col')  # the line that a kill cut off
    seen, notes, progress = decoded(monkeypatch), [], []
    splits = load_data(
        root, mapped=True, resolution=8, note=notes.append, progress=lambda *a: progress.append(a)
    )
    check_same(splits, in_memory)
    assert len(seen) == 21 - 8
    assert "of which 8 are decoded already" in notes[0]
    assert progress[0] == (12, 21)
    assert progress[-1] == (21, 21)
    assert {path.name for path in entries()[0].iterdir()} == {"header.json", "pixels.u8"}


@pytest.mark.parametrize("damage", ["pixels", "log", "head", "short", "long"])
def test_what_is_damaged_of_an_interrupted_map_is_decoded_anew(make_folder, monkeypatch, damage):
    root = make_folder({"a": 12, "b": 9})
    in_memory = load_data(root, mapped=False)
    interrupt(root, monkeypatch, after=3)
    folder = entries()[0]
    pixels, log = folder / "unfinished.u8", folder / "unfinished.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    if damage == "pixels":
        data = bytearray(pixels.read_bytes())
        data[0] ^= 1
        pixels.write_bytes(data)
    elif damage == "short":
        pixels.write_bytes(b"")
    elif damage == "long":
        pixels.write_bytes(pixels.read_bytes().ljust(5000, b"x"))
    else:
        number = 0 if damage == "head" else 2
        lines[number] = '{"number": -7, "colour": 1, "digest": "", "failed": {"99": 3}}\n'
        log.write_text("".join(lines))
    seen = decoded(monkeypatch)
    check_same(load_data(root, mapped=True), in_memory)
    # one for the common size, then what is missing: two blocks or three, and of those kept none
    assert len(seen) - 1 == {"pixels": 13, "log": 13, "head": 21, "short": 21, "long": 9}[damage]


def test_changed_files_make_a_new_map_and_the_stale_one_goes(make_folder):
    root = make_folder({"a": 6, "b": 5})
    load_data(root, mapped=True)
    load_data(root, mapped=True, val=0.3)
    before = entries()
    assert len(before) == 2
    (root / "a" / "5.png").write_bytes(png(77, (8, 8))[0])
    notes: list[str] = []
    both(root)
    assert len(entries()) == 2
    assert len({*entries()} & {*before}) == 1  # the one with a validation part is still the old one
    load_data(root, mapped=True, val=0.3, note=notes.append)
    assert "removed the memory map of these data as they were" in notes[1]
    assert not {*entries()} & {*before}
    (root / "b" / "new.png").write_bytes(png(78, (8, 8))[0])
    assert sum(both(root).train.counts) == 10
    os.utime(root / "b" / "new.png", ns=(1, 1))
    both(root)
    assert len(entries()) == 2


def damaged_headers(text):
    document = json.loads(text)
    yield "", b""
    yield "", text.encode()[:-20]
    yield "", b"[" * 100_000
    yield "", b"\xff\xfe"
    yield "was altered", text.replace('"test"', '"tset"').encode()
    document["header"]["shape"] = [3, 1, 1]
    yield "was altered", json.dumps(document).encode()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("offsets", {"train": [], "test": [0, 1, 2]}, "contradicts itself"),
        ("offsets", {"test": [0, 6, 11]}, "contradicts itself"),
        ("classes", ["a"], "contradicts itself"),
        ("std", [0.1], "contradicts itself"),
        ("mean", [0.1, 0.2, float("inf")], "contradicts itself"),
        ("shape", [-3, -8, 8], "contradicts itself"),
        ("skipped", [["a"]], "contradicts itself"),
        ("facts", {"version": 1}, "is of other data"),
    ],
)
def test_a_header_with_a_hash_that_fits_is_not_believed_for_that(make_folder, name, value, reason):
    root = make_folder({"a": 6, "b": 5})
    in_memory = load_data(root, mapped=False)
    load_data(root, mapped=True)
    file = entries()[0] / "header.json"
    values = json.loads(file.read_text())["header"] | {name: value}
    file.write_text(json.dumps({"hash": header._hash(values), "header": values}))
    notes: list[str] = []
    check_same(load_data(root, mapped=True, note=notes.append), in_memory)
    assert reason in notes[0]


def test_a_damaged_map_is_made_anew_with_a_note(make_folder):
    root = make_folder({"a": 6, "b": 5})
    in_memory = load_data(root, mapped=False)
    load_data(root, mapped=True)
    head, pixels = entries()[0] / "header.json", entries()[0] / "pixels.u8"
    good = head.read_text()
    for reason, data in damaged_headers(good):
        head.write_bytes(data)
        notes: list[str] = []
        check_same(load_data(root, mapped=True, note=notes.append), in_memory)
        assert "cannot be used, its header is damaged" in notes[0] or reason in notes[0]
        assert head.read_text() == good
    for reason, damage in (
        ("its pixels have 5 bytes", lambda: pixels.write_bytes(b"12345")),
        ("its pixels are gone", pixels.unlink),
    ):
        notes = []
        damage()
        check_same(load_data(root, mapped=True, note=notes.append), in_memory)
        assert reason in notes[0]


def test_too_little_disk_is_told_before_anything_is_written(make_folder, monkeypatch):
    root = make_folder({"a": 6, "b": 5})
    usage = making.shutil.disk_usage(root)._replace(free=11 * 192 - 1)
    with monkeypatch.context() as patch:
        patch.setattr(making.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DataError, match=r"needs 0.0 MB more in .*--no-mapped"):
            load_data(root, mapped=True)
    assert (entries()[0] / "unfinished.u8").stat().st_size == 0
    both(root)


def test_a_disk_that_fills_up_is_told_and_what_is_decoded_is_kept(make_folder, monkeypatch):
    root, add = make_folder({"a": 6, "b": 5}), making.Worklog.add

    def full(self, block):
        if len(self.noted) == 1:
            raise OSError(28, "No space left on device")
        add(self, block)

    with monkeypatch.context() as patch:
        patch.setattr(making.Worklog, "add", full)
        with pytest.raises(DataError, match="the memory map of these data needs"):
            load_data(root, mapped=True, resolution=8)
    seen = decoded(monkeypatch)
    load_data(root, mapped=True, resolution=8)
    assert len(seen) == 11 - 4


LOADER = """
import sys
from distilset.data import load_data
notes = []
splits = load_data(sys.argv[1], mapped=True, resolution=16, note=notes.append)
print(splits.info.fingerprint, len(notes) and notes[0].split()[0])
"""


def test_two_processes_at_once_make_one_map(make_folder):
    root = make_folder({"a": 60, "b": 50})
    in_memory = load_data(root, mapped=False, resolution=16)
    command = [sys.executable, "-c", LOADER, str(root)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0].split() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert {fingerprint for fingerprint, _ in told} == {in_memory.info.fingerprint}
    assert [first for _, first in told].count("110") == 1  # one alone says that it decodes
    check_same(load_data(root, mapped=True, resolution=16), in_memory)


def test_who_comes_second_waits_and_opens(make_folder, monkeypatch):
    root = make_folder({"a": 6, "b": 5})
    in_memory = both(root)
    folder = entries()[0]
    hidden = folder.with_name("hidden")
    folder.rename(hidden)
    lock = FileLock(folder.with_suffix(".lock"))
    lock.acquire()

    def note(text):
        assert text.startswith("another process is making")
        hidden.rename(folder)
        lock.release()

    seen = decoded(monkeypatch)
    check_same(load_data(root, mapped=True, resolution=None, note=note), in_memory)
    assert seen == []


def test_the_map_is_like_any_tensor_and_cannot_be_written_through(make_folder):
    root = make_folder({"a": 6, "b": 5})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train = both(root).train
        train = load_data(root, mapped=True).train
    before = (entries()[0] / "pixels.u8").read_bytes()
    train.images[0] = 7
    assert int(train.images[0].max()) == 7
    assert (entries()[0] / "pixels.u8").read_bytes() == before
    transform = fit_transform(load_data(root, mapped=True).train, zca=True)
    same = fit_transform(load_data(root, mapped=False).train, zca=True)
    assert torch.equal(transform.zca.matrix, same.zca.matrix)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count what is mapped")
def test_more_than_the_memory_can_be_mapped(tmp_path):
    shape = (3, 1024, 1024)
    number = 4 * (memory_bytes() or 0) // (3 << 20)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(number * (3 << 20))  # a hole
    images = mapped.open_pixels(tmp_path / "large", shape)
    assert images.shape == (number, *shape)
    assert int(images[number - 1].max()) == 0


def test_opening_reads_no_pixels(make_folder, monkeypatch):
    root = make_folder({"a": 6, "b": 5})
    load_data(root, mapped=True)
    head, pixels = entries()[0] / "header.json", entries()[0] / "pixels.u8"
    digest = json.loads(head.read_text())["header"]["digests"]["train"]
    pixels.write_bytes(b"\0" * pixels.stat().st_size)  # would give another digest and mean
    splits = load_data(root, mapped=True)
    assert splits.train.digest == splits.train.with_info(name="x").digest == digest
    assert max(splits.info.mean) > 0
    assert splits.train.take([0, 1], "val").digest != digest


def test_an_unreadable_last_image(make_folder):
    """Nothing is written at its place, at the end of the file."""
    root = make_folder({"a": 40, "b": 30}, "train")
    make_folder({"a": 9, "b": 9}, "test")
    (root / "test" / "b" / "8.png").write_bytes(b"damaged")
    assert both(root).info.skipped == ("test/b/8.png",)
