import re
from html.parser import HTMLParser

import pytest

import distilset
from distilset.errors import ConfigError, DataError
from distilset.reporting.collect import read_runs
from distilset.reporting.page import Real, compose, ratio, size, to_html
from distilset.reporting.pictures import class_rows, png_bytes
from tests.reporting.runs import EVIL, add_baseline, add_scores, make_run
from tests.small import splits


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text, self.inside = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text.append(data)


def html(*runs, train=None, title=None):
    facts = read_runs(runs)
    return to_html(compose(facts, {run.name: Real(train) for run in facts}, title))


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


@pytest.fixture
def evil(tmp_path):
    """A run whose every string is markup."""
    run = make_run(
        tmp_path / "<b>run", method=EVIL, classes=(EVIL, '"><img src=x>', "&amp;"), notes=(EVIL,),
        network=EVIL, norm=EVIL, device=EVIL, precision=EVIL, versions={EVIL: EVIL},
        dataset={"name": EVIL, "source": EVIL, "fingerprint": EVIL},
    )  # fmt: skip
    add_scores(run, [50.0, 51.0], network="<svg/onload=alert(1)>", protocol="<i>")
    add_baseline(run, EVIL, [20.0])
    return run


def test_everything_that_comes_from_a_run_is_escaped(evil):
    text = html(evil, title=EVIL)
    reader = read(text)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "i" not in [tag for tag, _ in reader.tags]
    assert "onload=alert" not in str([attrs for tag, attrs in reader.tags if tag == "svg"])
    assert "hacked" in "".join(reader.text)
    assert all(a["src"].startswith("data:") for t, a in reader.tags if t == "img" and "src" in a)
    assert EVIL not in text


def test_only_our_own_script_may_run_and_nothing_may_be_fetched(evil):
    text = html(evil)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    for _, attrs in read(text).tags:
        for name in ("src", "href", "action", "srcset"):
            assert attrs.get(name, "#").startswith(("data:", "#"))
    assert "url(" not in text
    assert "@import" not in text


def test_images_stand_beside_real_ones_class_by_class(tmp_path):
    run = make_run(tmp_path / "run", ipc=12)
    train = splits().train
    distilled = read_runs([run])[0].distilled
    rows = class_rows(distilled, train, "synthetic")
    assert [(row.name, len(row.synthetic), row.total, len(row.real)) for row in rows] == [
        (name, 10, 12, 6) for name in "abc"
    ]
    reader = read(html(run, train=train))
    thumbs = [a for t, a in reader.tags if t == "img" and a.get("src", "").startswith("data:")]
    assert len(thumbs) == 3 * 16
    assert all(a["alt"] for a in thumbs)


def test_many_classes_are_left_out_with_a_word(tmp_path, monkeypatch):
    from distilset.reporting import pictures

    monkeypatch.setattr(pictures, "BUDGET", 5)
    run = make_run(tmp_path / "run")
    assert "1 further classes are left out" in html(run)


def test_the_page_tells_scores_loss_sizes_and_loading(tmp_path):
    run = make_run(tmp_path / "run")
    add_scores(run, [50.0, 60.0])
    text = html(run, train=splits().train)
    assert "55.00" in text
    assert f"ds.DistilledSet.load(&#39;{run}&#39;)" in text
    assert "4 steps in 2 s" in text
    assert "Loss over time" in text
    assert "Accuracy over cost" in text
    assert "scores.csv" in text
    assert "18 real images" in text


def test_a_run_without_scores_and_losses_says_so(tmp_path):
    text = html(make_run(tmp_path / "run", losses=False))
    assert "Nothing was scored yet" in text
    assert "unknown: the real data are not at hand" in text
    assert "Loss over time" not in text


def test_png_sizes_are_those_of_the_files(tmp_path, monkeypatch):
    from distilset.reporting import pictures

    distilled = read_runs([make_run(tmp_path / "run", ipc=8)])[0].distilled
    exact, scaled = png_bytes(distilled)
    assert not scaled
    assert exact > 24 * 67  # a PNG's least overhead
    monkeypatch.setattr(pictures, "SAMPLE", 12)
    about, scaled = png_bytes(distilled)
    assert scaled
    assert about == pytest.approx(exact, rel=0.3)


def test_sizes_and_ratios():
    assert [size(n) for n in (12, 1500, 2_500_000, 3 * 10**9)] == [
        "12 bytes", "1.5 kB", "2.5 MB", "3.0 GB"
    ]  # fmt: skip
    assert ratio(1000, 10) == "100 times smaller"
    assert ratio(18, 12) == "1.5 times smaller"


def test_python_writes_a_report_with_the_runs_own_data(tmp_path):
    from tests.small import distil, write_npz

    data = write_npz(tmp_path / "drawn.npz")
    distil(distilset.load_data(data).train, steps=2, out=tmp_path / "run")
    out = distilset.report([tmp_path / "run"], tmp_path / "new" / "report.html")
    assert "synthetic images beside real ones" in out.read_text("utf-8").lower()
    hidden = distilset.report([tmp_path / "run"], tmp_path / "report.html", real=False)
    assert "beside real ones" not in hidden.read_text("utf-8")


def test_data_that_are_gone_or_do_not_fit(tmp_path):
    from tests.small import write_npz

    run = make_run(tmp_path / "run")
    out = distilset.report([run], tmp_path / "report.html")
    assert "not at hand (drawn.npz)" in out.read_text("utf-8")
    other = write_npz(tmp_path / "other.npz", classes=("x", "y", "z"))
    with pytest.raises(DataError, match="classes"):
        distilset.report([run], tmp_path / "no.html", data=other)
    assert not (tmp_path / "no.html").exists()
    similar = write_npz(tmp_path / "similar.npz")
    text = distilset.report([run], out, data=similar).read_text("utf-8")
    assert "not the data that the run was made from" in text
    with pytest.raises(ConfigError):
        distilset.report([], out)
