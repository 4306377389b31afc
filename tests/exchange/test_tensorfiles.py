"""Files that would run code do not; damaged and dishonest ones are told."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from distilset.errors import DataError
from distilset.exchange.tensorfiles import check_tensor, read_object
from tests.small import mutations


class Bomb:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def written(tmp_path, thing, **options):
    torch.save(thing, tmp_path / "file.pt", **options)
    return tmp_path / "file.pt"


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, options):
    fired = tmp_path / "fired"
    file = written(tmp_path, {"data": [[torch.rand(2, 3, 4, 4), Bomb(fired)]]}, **options)
    with pytest.raises(DataError) as caught:
        read_object(file)
    assert not fired.exists()
    text = str(caught.value)
    assert "posix.mkdir" in text
    assert "not opened" in text
    assert "\n" not in text
    torch.load(file, weights_only=False)  # it is a bomb indeed
    assert fired.is_dir()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_that_would_run_code_is_refused(tmp_path, protocol):
    fired = tmp_path / "fired"
    (tmp_path / "file.pt").write_bytes(pickle.dumps([Bomb(fired)], protocol))
    with pytest.raises(DataError):
        read_object(tmp_path / "file.pt")
    assert not fired.exists()


def test_accuracies_kept_as_numpy_numbers_do_no_harm(tmp_path):
    """As in the files of DC and DataDAM, by NumPy before and since 2."""
    thing = {"data": torch.rand(2), "accs_all_exps": {"ConvNet": [np.float64(0.5), np.float32(1)]}}
    file = written(tmp_path, thing, _use_new_zipfile_serialization=False)
    old = file.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    for content in (file.read_bytes(), old):
        file.write_bytes(content)
        assert torch.equal(read_object(file)["data"], thing["data"])


def test_numpy_arrays_are_named_in_the_refusal(tmp_path):
    with pytest.raises(DataError, match="_reconstruct"):
        read_object(written(tmp_path, [torch.rand(2), np.arange(2)]))


def test_damaged_files_are_refused_or_read_and_raise_nothing_else(tmp_path):
    file = written(tmp_path, [torch.rand(2, 1, 4, 4), torch.arange(2)])
    outcomes = {_outcome(file, content) for content in mutations(file.read_bytes(), 40)}
    assert "refused" in outcomes
    assert outcomes <= {"refused", "read"}


def _outcome(file, content):
    file.write_bytes(content)
    try:
        read_object(file)
    except DataError as error:
        return "refused" if str(file) in str(error) else str(error)
    return "read"


def test_missing_files_and_text(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_object(tmp_path / "none.pt")
    (tmp_path / "file.pt").write_text("hello")
    with pytest.raises(DataError, match="damaged or no file of tensors"):
        read_object(tmp_path / "file.pt")


def test_archives_larger_than_memory_are_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("distilset.untrusted.memory_bytes", lambda: 10_000)
    with zipfile.ZipFile(tmp_path / "file.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data/0", b"\0" * 1_000_000)
    with pytest.raises(DataError, match="more than the memory"):
        read_object(tmp_path / "file.pt")


def test_tensors_hold_what_they_claim(tmp_path):
    whole = torch.rand(2, 3, 4, 4)
    assert check_tensor(tmp_path, "images", whole[:1].clone().requires_grad_()).shape == (
        1,
        3,
        4,
        4,
    )
    for value, part in (
        (torch.rand(1).expand(10**6, 3, 1000, 1000), "hold fewer values"),
        (torch.rand(2, 2).to_sparse(), "plain numbers"),
        (torch.rand(2, dtype=torch.complex64), "plain numbers"),
        (torch.rand(2, 2, device="meta"), "plain numbers"),
        ([1, 2], "list for images"),
    ):
        with pytest.raises(DataError, match=part):
            check_tensor(tmp_path, "images", value)
