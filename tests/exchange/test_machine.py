"""Pickles that would end the process or take its memory; PyTorch as the oracle of what is read."""

import struct
import zipfile

import pytest
import torch

from distilset.errors import DataError
from distilset.exchange.tensorfiles import read_object


def repacked(path, **members):
    """Replace members of an archive that torch.save wrote."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(content)).split("/")[0]
    content |= {f"{folder}/{name.replace('__', '.')}": data for name, data in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_a_key_nested_too_deep_does_not_end_the_process(tmp_path):
    """PyTorch 2.13's own reader of untrusted files hashes it, and the stack overflows."""
    torch.save({1: 2}, tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", data__pkl=b"\x80\x02}N" + b"\x85" * 50_000 + b"K\x01s.")
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
