import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilset.data.labels import natural_key
from distilset.errors import DataError
from distilset.exchange.names import folder_name, folder_names, match_names

NASTY = ["", ".", "..", "../x", "/etc/passwd", "a/../../b", "a\\b", "<script>", "x\0y", "a\nb"]
NASTY += ["\u202etxt", "CON", "nul.txt", "  ", "é" * 200, "\ud800", "c:d", ".hidden", "-x", "漢字"]


def is_safe(name):
    assert name.strip(". ") == name.rstrip(". ") != ""
    assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
    assert all(c.isprintable() for c in name)
    assert len(name.encode()) <= 130


@pytest.mark.parametrize("name", NASTY)
def test_one_step_on_any_system(name):
    is_safe(folder_name(name))


@given(st.lists(st.text(), min_size=1, max_size=12, unique=True))
def test_folders_are_different_and_in_the_order_of_labels(classes):
    names = folder_names(classes)
    for name in names:
        is_safe(name)
    assert len({name.casefold() for name in names}) == len(classes)
    assert list(names) == sorted(names)
    assert list(names) == sorted(names, key=lambda n: (natural_key(n), n))


def test_plain_names_stay():
    assert folder_names(("airplane", "bird", "cat")) == ("airplane", "bird", "cat")
    assert folder_names(tuple("0123456789")) == tuple("0123456789")
    assert folder_names(("dog", "cat")) == ("0-dog", "1-cat")
    assert folder_names(("A", "a")) == ("0-A", "1-a")
    assert folder_names(("2", "10")) == ("0-2", "1-10")  # other readers sort them as text


def test_names_find_their_labels():
    classes = ("dog", "../cat", "<b>")
    assert match_names(classes, classes) == [0, 1, 2]
    assert match_names(("<b>", "dog", "../cat"), classes) == [2, 0, 1]
    assert match_names(sorted(folder_names(classes)), classes) == [0, 1, 2]
    assert match_names(("00000", "00001", "00002"), classes) == [0, 1, 2]
    with pytest.raises(DataError, match="2 classes and the data have 3"):
        match_names(("dog", "cat"), classes)
    with pytest.raises(DataError, match="'wolf' of the file"):
        match_names(("dog", "../cat", "wolf"), classes)
    with pytest.raises(DataError):
        match_names(("0", "1", "3"), classes)
