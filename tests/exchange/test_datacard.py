"""The card: front matter that a YAML parser reads, Markdown without anybody's HTML."""

import re
from dataclasses import replace

import pytest
import yaml

import distilset
from distilset.exchange.datacard import plain, quoted

NASTY = ("<script>alert(1)</script>", "../x | y", "a\x07\u2028b: [c]", "[x](javascript:1)")


def card_of(tmp_path, made, format="parquet"):
    distilset.export_set(made, format, tmp_path / "set")
    text = (tmp_path / "set" / "README.md").read_text("utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_the_front_matter_says_where_the_data_are(make, tmp_path):
    facts, _ = card_of(tmp_path, make(2, classes=NASTY))
    assert facts["task_categories"] == ["image-classification"]
    assert facts["size_categories"] == ["n<1K"]
    assert facts["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*"}]
    image, label = facts["dataset_info"]["features"]
    assert image == {"name": "img", "dtype": "image"}
    names = label["dtype"]["class_label"]["names"]
    assert [names[str(i)] for i in range(4)] == [*NASTY[:2], "a\ufffd\ufffdb: [c]", NASTY[3]]


@pytest.mark.parametrize("format", ["parquet", "imagefolder", "ddranking"])
def test_names_are_shown_and_do_nothing(make, tmp_path, format):
    made = make(1, classes=NASTY)
    dataset = replace(made.card.dataset, name="# <h1>data", source="/home/somebody/secret")
    made = replace(made, card=replace(made.card, dataset=dataset, notes=("<i>note</i>",)))
    _, body = card_of(tmp_path, made, format)
    assert not re.search(r"<\s*(script|h1|i)\b", body)
    assert "](javascript" not in body
    assert "secret" not in body
    assert "&lt;script&gt;" in body
    for text in ("atom", "1 images per class", "mean 0.5000", "licence"):
        assert text in body


def test_text_is_one_line_of_markdown():
    assert plain("a*b\n") == "a\\*b\ufffd"
    assert yaml.safe_load(quoted('"x"\\ \x85 é 🎈')) == '"x"\\ \ufffd é 🎈'


def test_whitening_is_mentioned(make, tmp_path):
    _, body = card_of(tmp_path, make(1, zca=True))
    assert "whitened" in body
