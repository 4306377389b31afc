"""The report in a real browser: Debian's Chromium, or the one that Playwright brought."""

import shutil
from pathlib import Path

import pytest

from distilset.reporting.collect import read_runs
from distilset.reporting.page import Real, write_page
from tests.reporting.runs import EVIL, add_baseline, add_scores, make_run
from tests.small import splits

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        if found is None and not Path(own).is_file():
            pytest.skip("no Chromium on this machine")
        browser = playwright.chromium.launch(
            executable_path=found or own, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Write a report of three runs, the first with a class, a card and a score full of markup."""
    folder = tmp_path_factory.mktemp("report")
    evil = {"classes": (EVIL, "<img src=x onerror=alert(1)>", "c"), "notes": (EVIL,)}
    made = [
        make_run(folder / f"{name}-with-quite-a-long-name-of-its-own", method=name, ipc=12, **card)
        for name, card in (("datadam", evil), ("dm", {}), ("atom", {}))
    ]
    for run, base in zip(made, (50, 70, 60), strict=True):
        add_scores(run, [base, base + 1, base + 2], network="convnet:width=32,depth=4")
        add_scores(run, [base + 9, base + 5], protocol="dm")
    add_baseline(made[0], "whole", [95.0], ipc=None, protocol="whole")
    runs = read_runs(made)
    train = splits().train
    return write_page(runs, {run.name: Real(train) for run in runs}, folder / "report.html")


class Opened:
    """A page with what it asked for and what it complained about."""

    def __init__(self, browser, report, **context):
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.asked, self.said, self.failed = [], [], {}
        self.page.on("requestfailed", lambda r: self.failed.update({r.url: r.failure}))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.said.append("dialog"), dialog.dismiss()))
        self.page.goto(report.as_uri())


@pytest.fixture
def opened(browser, report):
    made = []

    def go(width=1200, height=900, **context):
        made.append(Opened(browser, report, viewport={"width": width, "height": height}, **context))
        return made[-1]

    yield go
    for one in made:
        one.context.close()


def test_images_are_there_nothing_is_fetched_and_nothing_complains(opened, report):
    one = opened()
    widths = one.page.eval_on_selector_all(".thumb img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == 3 * 3 * (10 + 6)
    assert set(widths) == {8}
    shown = one.page.eval_on_selector(".thumb img", "i => getComputedStyle(i).imageRendering")
    assert shown == "pixelated"
    assert {url.partition(":")[0] for url in one.asked} <= {"file", "data"}
    assert [url for url in one.asked if url.startswith("file:")] == [report.as_uri()]
    assert one.said == []
    assert one.page.title() != "hacked"


def test_the_policy_stops_a_script_and_a_request_that_got_in(opened):
    """Were an escape ever missing, the page would still run and fetch nothing."""
    one = opened()
    one.page.evaluate(
        """() => {
        const script = document.createElement("script");
        script.textContent = 'document.title = "hacked"';
        document.body.append(script);
        const image = new Image();
        image.src = "https://example.invalid/x.png";
        document.body.append(image);
    }"""
    )
    one.page.wait_for_timeout(100)
    assert one.page.title() != "hacked"
    assert one.failed == {"https://example.invalid/x.png": "csp"}
    assert any("Content Security Policy" in text for text in one.said)


def column(page, number):
    cells = f".scores tbody tr > :nth-child({number})"
    return page.eval_on_selector_all(cells, "all => all.map(cell => cell.dataset.sort)")


def test_the_table_sorts_on_click_and_by_keyboard(opened):
    one = opened()
    button = one.page.locator(".scores thead th:nth-child(5) button")
    assert column(one.page, 5) == ["51.0", "71.0", "61.0", ""]
    button.click()
    assert column(one.page, 5) == ["71.0", "61.0", "51.0", ""]
    assert column(one.page, 2) == ["dm", "atom", "datadam", "whole"]
    button.focus()
    one.page.keyboard.press("Enter")
    assert column(one.page, 5) == ["51.0", "61.0", "71.0", ""]  # not scored stays last
    head = one.page.locator(".scores thead th:nth-child(5)")
    assert head.get_attribute("aria-sort") == "ascending"
    one.page.locator(".scores thead th:nth-child(2) button").click()
    assert column(one.page, 2) == ["atom", "datadam", "dm", "whole"]
    assert head.get_attribute("aria-sort") is None
    assert one.said == []


def test_best_and_second_best_are_told_by_more_than_colour(opened):
    page = opened().page
    assert page.locator(".scores .best").count() == 1
    assert "71.00" in page.locator(".scores .best").inner_text()
    assert page.eval_on_selector(".best .mean", "e => +getComputedStyle(e).fontWeight") >= 700
    lines = page.eval_on_selector(".second .mean", "e => getComputedStyle(e).textDecorationLine")
    assert lines == "underline"


def test_images_zoom_by_click_and_keyboard(opened):
    one = opened()
    zoom = one.page.locator("#zoom")
    assert not zoom.is_visible()
    one.page.locator(".thumb").first.click()
    assert zoom.is_visible()
    assert zoom.locator("figcaption").inner_text() == f"{EVIL}: synthetic image 1"
    assert zoom.locator("img").bounding_box()["width"] > 200
    one.page.keyboard.press("ArrowRight")
    assert zoom.locator("figcaption").inner_text().endswith("synthetic image 2")
    zoom.get_by_label("previous image").click()
    assert zoom.locator("figcaption").inner_text().endswith("synthetic image 1")
    one.page.keyboard.press("Escape")
    assert not zoom.is_visible()
    assert one.page.evaluate("document.activeElement.className") == "thumb"


@pytest.mark.parametrize("width", [320, 360, 720, 1024])
def test_no_screen_scrolls_sideways(opened, width):
    page = opened(width=width).page
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


BROKEN = """() => {
  const broken = [];
  for (const cell of document.querySelectorAll(".scores td")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) for (const found of walker.currentNode.data.matchAll(/\\w+/g)) {
      const range = document.createRange();
      range.setStart(walker.currentNode, found.index);
      range.setEnd(walker.currentNode, found.index + found[0].length);
      if (range.getClientRects().length > 1) broken.push(found[0]);
    }
  }
  return broken;
}"""


@pytest.mark.parametrize("width", [730, 1000])
def test_no_word_of_a_score_is_broken(opened, width):
    assert opened(width=width).page.evaluate(BROKEN) == []


def lightness(page, what):
    colour = page.evaluate(f"getComputedStyle(document.body).{what}")
    return sum(int(part) for part in colour.strip("rgba()").split(",")[:3]) / 3


def test_dark_and_light_are_told_apart(opened):
    dark, light = opened(color_scheme="dark").page, opened(color_scheme="light").page
    assert lightness(dark, "backgroundColor") < 50 < 200 < lightness(dark, "color")
    assert lightness(light, "backgroundColor") > 200 > 50 > lightness(light, "color")


def test_print_shows_what_is_folded_and_hides_the_buttons(opened):
    one = opened()
    one.page.emulate_media(media="print", color_scheme="dark")
    assert not one.page.locator(".copy").first.is_visible()
    assert lightness(one.page, "backgroundColor") == 255
    one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert one.page.locator("details:not([open])").count() == 0
    assert len(one.page.pdf()) > 10_000


def test_pictures_of_charts_have_names(opened):
    page = opened().page
    charts = page.get_by_role("img", name="Loss over time", exact=False)
    assert charts.count() == 3
    assert page.get_by_role("img", name="Accuracy over cost", exact=False).count() == 2
