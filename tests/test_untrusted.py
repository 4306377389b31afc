"""What was found by attacking every loader, each with its own test."""

import json
import math
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import distilset
from distilset import untrusted
from distilset.checkpoint import CURRENT, PREVIOUS, load_checkpoint, save_checkpoint
from distilset.data import load_data
from distilset.data.arrays import resize
from distilset.data.labels import natural_key
from distilset.data.pixels import MOST_BYTES
from distilset.errors import ConfigError, DataError, plain
from distilset.evaluation.book import Book, append_baseline
from distilset.evaluation.judge import TrialResult
from distilset.evaluation.score import Score
from distilset.exchange.names import folder_name
from distilset.exchange.tensorfiles import read_object
from distilset.files import write_text
from distilset.optimise import State
from distilset.reporting.collect import read_run
from distilset.reporting.formats import comma_separated
from distilset.reporting.page import Real, compose, to_html
from distilset.reporting.tables import tabulate
from distilset.stated import load_preset, named_code
from distilset.store import DistilledSet, claim
from distilset.terminal import plain_table, stdout
from tests.reporting.runs import add_baseline, add_scores, make_run
from tests.small import refused, write_npz


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run")


# pickles


def repacked(path, **members):
    """Replace members of an archive that torch.save wrote."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(content)).split("/")[0]
    content |= {f"{folder}/{name.replace('__', '.')}": data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_a_key_nested_a_million_deep_does_not_end_the_process(tmp_path):
    """PyTorch 2.13's own reader of untrusted files hashes it, and the stack overflows."""
    torch.save({1: 2}, tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", data__pkl=b"\x80\x02}N" + b"\x85" * 1_000_000 + b"K\x01s.")
    with pytest.raises(DataError, match="keys that are text or numbers"):
        read_object(tmp_path / "x.pt")


def test_tensors_made_of_nothing_are_refused(tmp_path):
    """A shape without a storage: gigabytes of whatever lay in memory before."""
    torch.save([1], tmp_path / "x.pt")
    for code in (
        b"ctorch\nTensor\n(J\x00\x00\x00\x7ft\x81.",
        b"c__builtin__\nbytearray\n(J\x7ftR.",
    ):
        repacked(tmp_path / "x.pt", data__pkl=b"\x80\x02" + code)
        with pytest.raises(DataError, match="not opened"):
            read_object(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_storages_that_claim_more_than_they_hold(tmp_path, zipped):
    file = tmp_path / "x.pt"
    torch.save([torch.rand(4)], file, _use_new_zipfile_serialization=zipped)
    if zipped:
        repacked(file, data__pkl=_pickle(file).replace(b"K\x04tq", b"M\xff\xfftq"))
    else:
        at = file.read_bytes().rindex(struct.pack("<q", 4))
        content = bytearray(file.read_bytes())
        content[at : at + 8] = struct.pack("<q", 2**40)
        file.write_bytes(bytes(content))
    with pytest.raises(DataError, match="claims"):
        read_object(file)


def _pickle(file):
    with zipfile.ZipFile(file) as archive:
        return next(archive.read(n) for n in archive.namelist() if n.endswith("data.pkl"))


def test_a_file_without_end_of_instructions_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("distilset.exchange.machine.MOST_STEPS", 100)
    torch.save([list(range(200))], tmp_path / "x.pt")
    with pytest.raises(DataError, match="more than 100 instructions"):
        read_object(tmp_path / "x.pt")


def test_the_machine_reads_what_torch_reads(tmp_path):
    """PyTorch's own reader is the oracle."""
    base = torch.arange(24.0).reshape(2, 3, 4)
    thing = {
        "views": [base, base[1, ::2].T, base.expand(1, 2, 3, 4), torch.empty(0, 3), base[0, 0, 0]],
        "kinds": [torch.ones(3, dtype=d) for d in (torch.bool, torch.int8, torch.bfloat16)],
        "parameter": torch.nn.Parameter(torch.rand(2)),
        "numbers": [1, -(2**70), 1.5, True, None, "é", (1, (2, 3))],
        "state": torch.nn.Linear(2, 2).state_dict(),
    }
    for zipped in (True, False):
        torch.save(thing, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        ours, theirs = (
            read_object(tmp_path / "x.pt"),
            torch.load(tmp_path / "x.pt", weights_only=True),
        )
        for name in ("views", "kinds"):
            for mine, other in zip(ours[name], theirs[name], strict=True):
                assert mine.dtype == other.dtype
                assert torch.equal(mine, other)
        assert torch.equal(ours["parameter"], theirs["parameter"])
        assert ours["numbers"] == theirs["numbers"]
        assert torch.equal(ours["state"]["weight"], theirs["state"]["weight"])


# arrays and images


def npz_of(path, header, size=100):
    """Write an .npz whose arrays have a header of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("images", "labels"):
            text = header.encode().ljust(117) + b"\n"
            magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text))
            archive.writestr(f"{name}.npy", magic + text + b"\0" * size)
    return path


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000, 3)", "(2,)*9", "(-1, 4)", "(9" + "9" * 30 + ",)"]
)
@pytest.mark.parametrize("kind", ["|u1", "<U0", "|O"])
def test_npz_headers_that_claim_what_is_not_there(tmp_path, shape, kind):
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    with pytest.raises(DataError, match="without pickles"):
        load_data(npz_of(tmp_path / "x.npz", header))


def test_npz_bombs_are_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((9, 100, 100)), labels=np.arange(9))
    monkeypatch.setattr("distilset.untrusted.memory_bytes", lambda: 100_000)
    with pytest.raises(DataError, match="more than the memory"):
        load_data(tmp_path / "x.npz")


def test_a_file_that_only_says_it_is_npz(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(DataError, match="without pickles"):
        load_data(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("images", "labels"),
    [(np.zeros((4, 0, 5)), np.arange(4)), (np.zeros((4, 8, 8)), np.array(3)), (np.array(1), [1])],
)
def test_npz_arrays_without_pixels_or_labels(tmp_path, images, labels):
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    with pytest.raises(DataError, match="one pixel or more"):
        load_data(tmp_path / "x.npz")


def test_a_strip_is_not_grown_to_gigabytes():
    strip = torch.zeros(1, 1, 1, 100_000, dtype=torch.uint8)
    with pytest.raises(DataError, match="too long and narrow"):
        resize(strip, (224, 224))
    assert resize(strip[..., :1000], (8, 8)).shape == (1, 1, 8, 8)


def test_files_larger_than_any_image_are_not_read(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(30):
            Image.new("L", (8, 8)).save(tmp_path / name / f"{i}.png")
    with (tmp_path / "a" / "huge.png").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # sparse: takes no room on disk
    assert load_data(tmp_path).info.skipped == ("a/huge.png",)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP"])
def test_images_that_declare_a_huge_size_are_passed_over(tmp_path, form):
    offset, order, width = {"PNG": (16, ">", 4), "GIF": (6, "<", 2), "BMP": (18, "<", 4)}[form]
    for i in range(30):
        (tmp_path / "a").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"{i}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / f"bomb.{form.lower()}")
    content = bytearray((tmp_path / "a" / f"bomb.{form.lower()}").read_bytes())
    big = struct.pack(order + ("I" if width == 4 else "H"), 60_000)
    content[offset : offset + 2 * width] = big + big
    (tmp_path / "a" / f"bomb.{form.lower()}").write_bytes(bytes(content))
    assert load_data(tmp_path).info.skipped == (f"a/bomb.{form.lower()}",)


def test_folders_deeper_than_python_recurses(tmp_path):
    (tmp_path / "data").mkdir()
    here = os.open(tmp_path / "data", os.O_RDONLY)
    for _ in range(120):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(DataError, match="deep"):
        load_data(tmp_path / "data")


def test_links_of_a_class_to_its_parent_end(tmp_path):
    (tmp_path / "data" / "a").mkdir(parents=True)
    for i in range(3):
        Image.new("L", (8, 8)).save(tmp_path / "data" / "a" / f"{i}.png")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "data")
    assert load_data(tmp_path / "data").train.classes == ("a", "b")


def test_a_billion_labels_in_a_few_bytes(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"img": [b"x"] * 100_000, "label": [0] * 100_000})
    pq.write_table(table, tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 10_000
    monkeypatch.setattr("distilset.untrusted.memory_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match="100,000 labels"):
        load_data(tmp_path / "train.parquet")


def test_metadata_of_parquet_nested_too_deep(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("img", pa.binary()), ("label", pa.int64())])
    schema = schema.with_metadata({"huggingface": "[" * 100_000})
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}, schema), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        load_data(tmp_path / "train.parquet")


def test_labels_of_thousands_of_digits_have_an_order():
    names = ["10" * 4000, "9", "10", "2", "02"]
    assert sorted(names, key=natural_key) == ["02", "2", "9", "10", "10" * 4000]


def test_paths_that_are_no_paths(tmp_path):
    for path, part in (
        ("~nobody-of-this-name/x", "not known here"),
        (os.fsdecode(os.fsencode(tmp_path) + b"/\xff"), "UTF-8"),
        (tmp_path / ("x" * 300), "name too long"),
        (tmp_path / "loop", "links"),
    ):
        (tmp_path / "loop").unlink(missing_ok=True)
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises((DataError, ConfigError), match=f"(?i){part}"):
            load_data(Path(path))


# text


@pytest.mark.parametrize(
    "text",
    ["a." * 300 + "a=1", "a=" + "[" * 5000, "a=0x" + "f" * 5000, "a=" + "9" * 5000, '"\\ud800"=1'],
)
def test_toml_that_would_take_hours_or_cannot_be_printed(tmp_path, text):
    (tmp_path / "x.toml").write_text(f"[distill]\n{text}\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_preset(str(tmp_path / "x.toml"))


def test_text_larger_than_any_of_ours_is_not_read(tmp_path, run):
    with (run / "run.toml").open("wb") as file:
        file.truncate(untrusted.MOST_TOML + 1)
    with pytest.raises(DataError, match="more than"):
        DistilledSet.load(run)
    with pytest.raises(ConfigError, match="more than"):
        load_preset(str(run / "run.toml"))


def test_a_pipe_is_not_waited_for(tmp_path, run):
    """As run.toml it would be no regular file; as a checkpoint reading it would never end."""
    images = torch.zeros(1, 1, 4, 4)
    for step in (1, 2):
        save_checkpoint(tmp_path, State(images, None, step), 0.0)
    (tmp_path / CURRENT).unlink()
    os.mkfifo(tmp_path / CURRENT)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found[0].step == 1
    assert "no regular file" in found[2][0]
    assert (tmp_path / PREVIOUS).is_file()


def test_a_header_that_claims_gigabytes(run):
    (run / "distilled.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(DataError, match="header claims"):
        DistilledSet.load(run)


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"step": 1, "loss": 1%s, "seconds": 1}' % ("0" * 400), '{"step": true}',
     '{"step": 3, "loss": 1e999, "seconds": 1}', '{"step": 3, "loss": 5e-324, "seconds": 1e300}'],
)  # fmt: skip
def test_lines_of_metrics_that_are_none(run, line):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"\n{line}\n")
    facts = read_run(run)
    assert len(facts.losses) in (4, 5)
    assert "<svg" in to_html(compose([facts], {facts.name: Real(None)}))


@pytest.mark.parametrize(
    "changes",
    [{"ipc": []}, {"ipc": "x"}, {"images": 1e300}, {"accuracies": [1e300, 0]}, {"seconds": -1}],
)
def test_baselines_that_cannot_be(run, changes):
    add_baseline(run, "random", [50.0])
    row = json.loads((run / "baselines.jsonl").read_text())
    (run / "baselines.jsonl").write_text(json.dumps(row | changes) + "\n")
    with pytest.raises(DataError, match=r"baselines.jsonl is damaged"):
        read_run(run)


@pytest.mark.parametrize("accuracy", ["inf", "1e300", "-5"])
def test_accuracies_that_cannot_be(run, accuracy):
    add_scores(run, [accuracy])
    with pytest.raises(DataError, match="no accuracy"):
        read_run(run)


# code


@pytest.mark.parametrize(
    "network",
    [
        {"name": "convnet:evil"},
        {"name": "convnet", "pool": ["convnet:width=8,evil_module:Net"]},
        {"name": "evil_module:Net"},
        {"name": "mlp", "pool": ["evil_module:Net:width=8"]},
    ],
)
def test_no_file_names_code_in_whatever_disguise(tmp_path, network):
    """``convnet:evil`` would import a module that is called convnet."""
    assert "--network" in named_code({"network": network})
    (tmp_path / "x.toml").write_text(
        "[network]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in network.items())
    )
    with pytest.raises(ConfigError, match="names code to import"):
        load_preset(str(tmp_path / "x.toml"))


# names


def edit_card(run, **changes):
    card = json.loads((run / "distilled.json").read_text()) | changes
    (run / "distilled.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["a", "b", "c\x1b[2J"], "control characters"),
        (["a", "b", "\ud800"], "surrogates not allowed"),
        (["a", "b", "x" * 2000], "at most 1000"),
        (["a", "a", "b"], "two classes"),
        (["a", "b", ""], "empty"),
    ],
)
def test_class_names_of_cards_are_those_that_data_may_have(run, names, part):
    edit_card(run, classes=names)
    with pytest.raises(DataError, match=part):
        DistilledSet.load(run)


EVIL = "\x1b]0;title\x07\u202exe\nline"


def test_what_is_printed_holds_no_escape_sequences(capsys, run):
    edit_card(run, method=EVIL, notes=[EVIL])
    console = stdout()
    console.print(plain_table("", ("card", EVIL), [(EVIL, EVIL)]))
    console.print(EVIL, markup=False)
    told = capsys.readouterr().out
    from tests.small import call

    told += call(capsys, "show", run)[1]
    assert not set(told) & set("\x1b\x07\u202e")
    assert plain(EVIL) == " ]0;title xe line"


def test_errors_are_one_line_without_tricks(capsys, tmp_path):
    assert str(DataError(EVIL)) == plain(EVIL)
    told = refused(capsys, "show", tmp_path / "a\x1b[2Jb")
    assert "\x1b" not in told


def test_a_page_does_not_turn_its_direction(run):
    edit_card(run, classes=["a", "b", "\u202egnp.exe"], method="\u202em")
    facts = read_run(run)
    page = to_html(compose([facts], {facts.name: Real(None)}))
    assert "\u202e" not in page
    assert "gnp.exe" in page


def test_spreadsheets_run_no_name(run, tmp_path):
    add_scores(run, [50.0], network="=cmd|' /C calc'!A0")
    text = comma_separated(tabulate(read_run(run).results))
    assert not any(cell.startswith("=") for line in text.splitlines() for cell in line.split(","))
    Book().append(tmp_path / "s.csv", "k", {"method": "=1+1"}, {0: TrialResult(1.0, 1.0, "")})
    assert ",=" not in "," + (tmp_path / "s.csv").read_text().replace("\n", "\n,")


def test_windows_has_more_reserved_names():
    assert [folder_name(name) for name in ("COM¹", "lpt2.x", "CONIN$", "com")] == [
        "COM¹_",
        "lpt2.x_",
        "CONIN$_",
        "com",
    ]


# links


@pytest.fixture
def outside(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "mine").write_text("mine")
    (tmp_path / "outside" / "events.out.tfevents.1").write_text("mine")
    return tmp_path / "outside"


def unharmed(outside):
    return {path.name: path.read_text() for path in outside.iterdir()} == {
        "mine": "mine",
        "events.out.tfevents.1": "mine",
    }


def score():
    facts = {
        "run": "b", "method": "random", "dataset": "d", "ipc": 1, "network": "convnet",
        "norm": "instance", "protocol": "dm", "epochs": 1, "labels": "hard", "images": 3,
        "augmentation": "dsa", "split": "test", "seed": 0, "device": "cpu",
    }  # fmt: skip
    return Score.of([50.0], seconds=1.0, **facts)


def test_nothing_is_written_through_links_in_a_run(run, outside):
    for name in ("baselines.jsonl", "scores.csv", "metrics.jsonl"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "mine")
    for process in (os.getpid(),):
        (run / f".scores.csv.{process}.partial").symlink_to(outside / "mine")
        (run / f".run.toml.{process}.partial").symlink_to(outside / "mine")
    append_baseline(run / "baselines.jsonl", score())
    Book().append(run / "scores.csv", "k", {}, {0: TrialResult(1.0, 1.0, "")})
    write_text(run / "run.toml", "[made]\n")
    (run / "tensorboard").symlink_to(outside)
    claim(run, overwrite=True)
    assert unharmed(outside)
    assert not (run / "tensorboard").exists()


def test_tensorboard_does_not_write_through_a_link(tmp_path, outside):
    from tests.small import start

    start(tmp_path / "run", steps=6, stop_at=2)
    (tmp_path / "run" / "tensorboard").symlink_to(outside)
    train = tmp_path / "d.npz"
    write_npz(train)
    from distilset.runfolder import RunFolder
    from distilset.session import open_session
    from tests.small import splits

    folder = RunFolder(tmp_path / "run", resume=True)
    session = open_session(folder.settle({}), splits().train, folder)
    session.tensorboard = True
    assert len(list(session.records())) == 4
    assert unharmed(outside)


# saved networks


@pytest.fixture
def network(run, tmp_path):
    distilset.train_network(DistilledSet.load(run), network="mlp", epochs=1, device="cpu").save(
        tmp_path / "net"
    )
    return tmp_path / "net"


def refacted(file, **changes):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["distilset"])
    save_file(load_file(file), file, {"distilset": json.dumps(facts | changes)})


@pytest.mark.parametrize(
    "changes",
    [
        {"image": [3, 4096, 4096]},
        {"image": [3, 10**9, 10**9]},
        {"image": [True, 8, 8]},
        {"classes": [f"c{i}" for i in range(5000)]},
        {"classes": ["\x1b[2J", "b", "c"]},
        {"mean": ["a", 0, 0]},
        {"std": [0, 1, 1]},
        {"std": [1e400, 1, 1]},
        {"zca": True},
    ],
)
def test_facts_of_a_network_are_checked_before_it_is_built(network, changes, monkeypatch):
    """A first layer for 4096x4096 pixels takes 25 GB, which nothing in the file holds."""
    refacted(network, **changes)
    made = []
    real = torch.nn.Linear.__init__

    def counted(self, inputs, *args, **options):
        made.append((inputs, torch.empty(0).device.type))
        real(self, inputs, *args, **options)

    monkeypatch.setattr(torch.nn.Linear, "__init__", counted)
    with pytest.raises(DataError, match=r"does not hold|damaged"):
        distilset.load_network(network)
    assert all(device == "meta" for _, device in made)


def test_no_bound_refuses_what_users_have(tmp_path):
    """A card of 50,000 selected images of 1,000 classes, and axes of a long run."""
    card = {"rows": list(range(1_200_000, 1_250_000)), "classes": ["name " * 5] * 1000}
    assert len(json.dumps(card)) < untrusted.MOST_JSON / 50
    assert math.prod((12_000, 7_000)) < Image.MAX_IMAGE_PIXELS
