"""The report's pages in Debian's Chromium: filters, links, keyboard, a telephone's width, and hostile guests.

``MEMTYPE_TEST_EFFORT=long`` opens the report of 10,000 tests and 300,000 records besides, and prints how long
each view takes. ``MEMTYPE_SCREENSHOTS`` names a folder in which each view leaves its picture.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from memtype_support.browser import chromium
from memtype_support.effort import effort
from memtype_support.kernel_scripts import LeftOutError
from memtype_support.large_run import kernels, write_run
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pytest_memtype.site import chunks
from pytest_memtype.site.build import write_site

# One browser is enough.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.xdist_group("browser")]

VIEWS = ("overview", "matrix", "tests", "failures", "audit", "layouts", "bugs", "kernels")
TESTS, STEPS = 60, 12

HOSTILE = (
    "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>\"</title></script>"
    "<a href='javascript:window.hacked=3'>&amp;\x1b[31m\u202e\u2028${hacked}"
)
SHOWN = "\\x1b[31m\\u202e\\u2028"
"""How its control characters have to look."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        program = chromium()
    except LeftOutError as error:
        pytest.skip(f"no browser: {error}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program)
        yield started
        started.close()


class Site:
    """A report of one synthetic run, and what its records say, read without the code under test."""

    def __init__(self, folder: Path, **about: Any) -> None:
        self.run = folder / "run-1"
        self.tests = write_run(self.run, **about)
        self.folder = folder / "report"
        write_site([self.run], self.folder)
        self.address = f"file://{self.folder}/run-1.html"

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.run / "records.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), tests=TESTS, steps=STEPS, on=2)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("hostile"), tests=4, steps=4, on=2, text=HOSTILE)


def opened(browser: Browser, **how: Any) -> tuple[Page, list[str], list[str]]:
    page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **how})
    page.set_default_timeout(60_000)
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    return page, complaints, asked


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    made, complaints, _ = opened(browser)
    yield made
    made.close()
    assert complaints == []


def rows(page: Page) -> int:
    return int(page.locator(".list").get_attribute("aria-rowcount") or -1)


def view(page: Page, site: Site, name: str) -> None:
    page.goto(f"{site.address}#/{name}")
    page.locator("#view h2").first.wait_for()


def disagrees(record: dict[str, Any]) -> bool:
    """Of the records that the support writes: the verifier refuses, and Linux maps."""
    return not record["verdict"]["accepted"] and record["kernel_answer"]["accepted"]


def key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        json.dumps(record[name])
        for name in ("kernel", "layout", "beside", "operation", "requested", "verdict", "granted")
    )


def requests(site: Site) -> list[dict[str, Any]]:
    return [each for each in site.records() if "kernel_answer" in each]


def test_the_matrix_has_a_row_for_each_answer(site: Site, page: Page) -> None:
    view(page, site, "matrix")
    assert rows(page) == len(set(map(key, requests(site))))
    first = page.locator(".row").first
    count = Counter(map(key, requests(site)))[key(requests(site)[0])]
    assert first.locator(".number").inner_text() == str(count)


def test_filters_of_the_matrix(site: Site, page: Page) -> None:
    view(page, site, "matrix")
    newest = [each for each in requests(site) if each["tested"] == kernels(2)[1]]
    page.select_option("select[name=kernel]", kernels(2)[1])
    assert rows(page) == len(set(map(key, newest)))
    page.select_option("select[name=kind]", "≠")
    assert rows(page) == len({key(each) for each in newest if disagrees(each)})
    page.select_option("select[name=layout]", "wb-device")
    wanted = [each for each in newest if disagrees(each) and each["layout"] == "wb-device"]
    assert rows(page) == len(set(map(key, wanted)))
    page.select_option("select[name=operation]", "mmap sysfs")
    wanted = [each for each in wanted if each["operation"] == "mmap sysfs"]
    assert rows(page) == len(set(map(key, wanted)))
    expect(page.locator("#status")).to_have_text(re.compile(rf"^{len(set(map(key, wanted)))} rows?$"))
    # The address names the filter, for others to see the same.
    address = page.url
    page.reload()
    page.locator(".list").wait_for()
    assert page.url == address
    assert rows(page) == len(set(map(key, wanted)))
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("location.hash === '#/matrix'")
    assert rows(page) == len(set(map(key, requests(site))))


def test_search_in_the_matrix(site: Site, page: Page) -> None:
    view(page, site, "matrix")
    page.fill("input[name=q]", "alias devmem")
    wanted = [
        each for each in requests(site) if not each["verdict"]["accepted"] and "devmem" in each["operation"]
    ]
    assert rows(page) == len(set(map(key, wanted))) > 0


def test_from_the_matrix_to_the_single_step(site: Site, page: Page) -> None:
    view(page, site, f"matrix?kernel={kernels(2)[1]}&kind=%E2%89%A0")
    wanted = [each for each in requests(site) if each["tested"] == kernels(2)[1] and disagrees(each)]
    page.locator(".row").first.click()
    steps = page.locator(".detail li a")
    steps.first.wait_for()
    its = [each for each in wanted if key(each) == key(wanted[0])]
    assert steps.count() == min(100, len(its))
    assert steps.first.inner_text() == f"{its[0]['case']}, guest 1, step {its[0]['step']}"
    steps.first.click()
    here = page.locator("tr.here")
    here.wait_for()
    text = here.inner_text()
    for expected in (
        its[0]["operation"],
        its[0]["requested"],
        "EBUSY alias",
        "≠",
        "ioremap WC",
        "0xfd000000",
    ):
        assert expected in text
    # Back is where one came from, with its filter and its row.
    page.go_back()
    page.locator(".detail li a").first.wait_for()
    assert page.locator("select[name=kind]").input_value() == "≠"


def test_a_test_as_a_timeline(site: Site, page: Page) -> None:
    view(page, site, "tests")
    assert rows(page) == 2 * TESTS
    page.fill("input[name=q]", "test_number_7")
    assert rows(page) == 2
    page.locator(".row").first.click()
    page.locator("table.timeline").wait_for()
    assert page.locator("[data-step]").count() == STEPS
    listed = page.locator("[data-step='1.4'] td[data-label='tracked, mapped already']").inner_text()
    assert listed == "write-combining 0-3"
    table = page.locator("[data-step='1.1'] td[data-label='page table']").inner_text()
    first = next(each for each in site.records() if "test_number_7[" in each["test"])
    assert table.split(" ")[0] == first["granted"]
    # To the same test on the other kernel.
    page.locator("summary", has_text="1 kernel").click()
    page.locator("details a").click()
    expect(page.locator("dl").first).to_contain_text(kernels(2)[1])


def test_a_link_to_a_step(site: Site, page: Page) -> None:
    view(page, site, "tests")
    page.locator(".row").first.click()
    page.locator("[data-step='1.9'] a").click()
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.locator("tr.here").wait_for()
    assert page.locator("tr.here").get_attribute("data-step") == "1.9"


def test_a_link_to_a_test_that_is_not_there(site: Site, page: Page) -> None:
    page.goto(f"{site.address}#/test?case=nothing&kernel=none")
    expect(page.locator(".trouble")).to_have_text("This run has no test nothing on none.")


def test_failures(site: Site, page: Page) -> None:
    view(page, site, "failures")
    assert rows(page) == 6
    page.locator(".row").first.click()
    page.locator(".console").wait_for()
    assert "E   assert drm" in page.locator("pre").first.inner_text()
    assert "Linux version" in page.locator(".console").inner_text()
    again = page.locator(".again").inner_text()
    kernel, name = kernels(1)[0], "testcases/test_file_0.py::test_number_0"
    assert again == f"memtype run --kernel {kernel} --layout firmware '{name}[{kernel}]'"
    links = page.locator(".evidence a")
    assert links.all_inner_texts() == ["guest-1/console.log", "guest-1/page.html", "guest-1/rerun.sh"]
    links.first.click()
    page.wait_for_url("**/console.log.txt")
    assert "Linux version" in page.inner_text("body")


def test_what_the_audit_found(site: Site, page: Page) -> None:
    view(page, site, "audit")
    assert rows(page) == 2 * len(range(1, TESTS, 50))
    page.locator(".row").first.click()
    finding = page.locator(".finding")
    finding.wait_for()
    for text in ("error: conflict, WC / UC", "0xfd000000-0xfd003fff (16K)", "at 0xffffc90000000000"):
        assert text in finding.inner_text()
    picture = page.locator("figure img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('figure img').naturalWidth === 400")


def test_layouts(site: Site, page: Page) -> None:
    view(page, site, "layouts")
    assert page.locator("figure").count() == 3
    page.select_option("select[name=layout]", "painful-case")
    assert page.locator("figure").count() == 1
    page.wait_for_function("document.querySelector('figure img').naturalWidth === 400")
    page.get_by_role("link", name="its verdicts").click()
    page.locator(".list").wait_for()
    assert page.locator("select[name=layout]").input_value() == "painful-case"


def test_bugs(site: Site, page: Page) -> None:
    view(page, site, "bugs")
    assert page.locator("tbody tr").count() == 1
    assert page.locator("tbody td").first.inner_text().startswith("REPRODUCED")
    page.locator("tbody td a").first.click()
    page.locator("table.timeline").wait_for()


def test_what_differs_between_kernels(site: Site, page: Page) -> None:
    view(page, site, "kernels")
    table = page.locator("tbody tr")
    assert "EINVAL" in table.first.inner_text()
    assert "WC" in table.first.inner_text()
    table.first.locator("summary").click()
    table.first.locator("li a").nth(1).click()
    page.locator("tr.here").wait_for()
    assert "WC" in page.locator("tr.here td[data-label='page table']").inner_text()


@pytest.mark.parametrize("name", ["overview", "bugs", "kernels"])
def test_rows_keep_their_names_when_a_wide_table_is_scrolled(site: Site, page: Page, name: str) -> None:
    view(page, site, name)
    table = page.locator(".wide table").first
    # As one of eleven kernels is.
    table.evaluate("each => { each.style.width = '6000px'; each.parentElement.scrollLeft = 3000; }")
    assert table.evaluate("each => each.parentElement.scrollLeft") > 2000
    for cell in (table.locator("thead th").first, table.locator("tbody th").first):
        box = cell.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < 100


def test_the_overview_leads_everywhere(site: Site, page: Page) -> None:
    page.goto(site.address)
    page.locator(".cards a", has_text="failed").click()
    page.locator(".list").wait_for()
    assert rows(page) == 6
    page.goto(site.address)
    page.locator("td a").first.click()
    page.locator(".list").wait_for()
    assert page.locator("select[name=kernel]").input_value() in kernels(2)
    page.get_by_role("link", name="All runs").click()
    page.get_by_role("link", name="run-1").click()
    page.locator(".cards").wait_for()


def test_by_keyboard_alone(site: Site, page: Page) -> None:
    page.goto(f"{site.address}#/overview")
    page.locator(".cards").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "view"
    view(page, site, "tests")
    page.keyboard.press("/")
    page.keyboard.type("test_number_3")
    assert rows(page) == 2 * len([each for each in range(TESTS) if str(each).startswith("3")])
    while page.evaluate("document.activeElement.className") != "list":
        page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.locator(".row.active")).to_contain_text("test_number_30")
    page.keyboard.press("Enter")
    page.locator("table.timeline").wait_for()
    expect(page.locator("h2")).to_contain_text("test_number_30")
    view(page, site, "matrix")
    page.locator(".list").focus()
    page.keyboard.press("Enter")
    page.locator(".detail li a").first.wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".detail")).to_be_hidden()
    assert page.evaluate("document.activeElement.className") == "list"


def test_each_row_of_a_long_list_can_be_reached(site: Site, page: Page) -> None:
    view(page, site, "tests")
    assert page.locator(".row").count() < TESTS
    page.locator(".list").focus()
    page.keyboard.press("End")
    last = page.locator(f"#tests-{2 * TESTS - 1}")
    last.wait_for()
    expect(last).to_contain_text(f"test_number_{TESTS - 1}")


@pytest.mark.parametrize("name", VIEWS)
def test_on_a_telephone(site: Site, browser: Browser, name: str) -> None:
    page, complaints, _ = opened(browser, viewport={"width": 360, "height": 740}, has_touch=True)
    view(page, site, name)
    if name in ("matrix", "tests"):
        page.locator(".row").first.tap()
        page.locator(".detail li, table.timeline").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    screenshot(page, f"{name}-telephone")
    page.close()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(site: Site, browser: Browser, scheme: Any) -> None:
    page, _, _ = opened(browser, color_scheme=scheme)
    for name in VIEWS:
        view(page, site, name)
        screenshot(page, f"{name}-{scheme}")
        colours = page.evaluate(COLOURS)
        assert colours, name
        for text, behind in colours:
            # WCAG 2.2, level AA.
            assert contrast(text, behind) >= 4.5, f"{name}: {text} on {behind}"
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (luminance(background) > 0.5) is (scheme == "light")
    page.close()


COLOURS = """() => {
  const found = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const texts = [...element.childNodes].filter((each) => each.nodeType === 3 && each.data.trim());
    if (!element.checkVisibility() || !texts.length) continue;
    const background = (of) => getComputedStyle(of).backgroundColor;
    let behind = element;
    while (behind.parentElement && background(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    found.add(JSON.stringify([getComputedStyle(element).color, background(behind)]));
  }
  return [...found].map((each) => JSON.parse(each));
}"""


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2 of ``rgb(r, g, b)``."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_what_a_guest_says_is_text(hostile: Site, browser: Browser) -> None:
    page, complaints, asked = opened(browser)
    shown = set()
    for name in VIEWS:
        view(page, hostile, name)
        page.wait_for_load_state("networkidle")
        shown |= {name} if SHOWN in page.content() else set()
        if page.locator(".row").count():
            page.locator(".row").first.click()
            page.locator(".detail li, table.timeline tbody td").first.wait_for()
            page.wait_for_load_state("networkidle")
            # Of what the matrix has no guest has a say.
            assert name == "matrix" or SHOWN in page.inner_text("#view")
        for made in ("#view script", "#view img:not(figure img)", "#view a[href^=javascript]"):
            assert page.locator(made).count() == 0
        assert page.evaluate("window.hacked") is None
    assert {"overview", "failures", "layouts", "bugs"} <= shown
    page.goto(f"file://{hostile.folder}/index.html")
    assert page.evaluate("window.hacked") is None
    assert all(each.startswith(f"file://{hostile.folder}/") for each in asked)
    assert complaints == []
    # Evidence is plain text, whatever its name was.
    view(page, hostile, "failures")
    page.locator(".row").first.click()
    page.locator(".evidence a", has_text="page.html").click()
    page.wait_for_url("**/page.html.txt")
    assert page.evaluate("[window.hacked, document.querySelectorAll('script').length]") == [None, 0]
    page.close()


def test_no_script_runs_that_is_not_a_file_of_the_site(site: Site, browser: Browser) -> None:
    page, complaints, _ = opened(browser)
    view(page, site, "overview")
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.inline = 1";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.inline = 2'>");
        }"""
    )
    page.wait_for_timeout(0)
    assert page.evaluate("window.inline") is None
    assert any("Content Security Policy" in each for each in complaints)
    page.close()


@contextlib.contextmanager
def served(folder: Path, before: Callable[[str], object] = lambda _: None) -> Iterator[str]:
    """The address of a server that has a site.

    :param folder: The site's folder.
    :param before: Called with the path of each request before it is answered.
    """

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            before(self.path)
            # What a browser asks of every server.
            if self.path == "/favicon.ico":
                self.send_response(204)
                self.end_headers()
                return
            super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_server_may_have_it(site: Site, page: Page) -> None:
    with served(site.folder) as address:
        page.goto(f"{address}/run-1.html#/tests")
        page.locator(".row").first.click()
        page.locator("table.timeline").wait_for()


def test_steps_that_come_late_are_not_those_of_another_row(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each row has a file of its own, as in a large run.
    monkeypatch.setattr(chunks, "_BYTES", 1)
    large, slow = Site(tmp_path, tests=TESTS, steps=STEPS, on=2), threading.Event()

    def wait(path: str) -> None:
        if path.endswith("/places-0.js"):
            slow.wait(60)

    keys = list(dict.fromkeys(map(key, requests(large))))
    shown = next(each for each in requests(large) if key(each) == keys[1])
    with served(large.folder, wait) as address:
        page.goto(f"{address}/run-1.html#/matrix")
        page.locator(".row").nth(0).click()
        page.evaluate(
            """() => {
              const script = document.querySelector("script[src$='/places-0.js']");
              window.late = new Promise((done) => script.addEventListener("load", () => setTimeout(done)));
            }"""
        )
        page.locator(".row").nth(1).click()
        first = page.locator(".detail li a").first
        first.wait_for()
        slow.set()
        page.evaluate("() => window.late")
        assert first.inner_text() == f"{shown['case']}, guest 1, step {shown['step']}"


def test_only_what_is_looked_at_is_loaded(site: Site, browser: Browser) -> None:
    page, _, asked = opened(browser)
    view(page, site, "tests")
    page.wait_for_load_state("networkidle")
    assert sorted(Path(each.partition("#")[0]).name for each in asked) == [
        "index.js",
        "report.css",
        "report.js",
        "run-1.html",
    ]
    page.locator(".row").first.click()
    page.locator("table.timeline").wait_for()
    assert {Path(each).name for each in asked[4:]} == {"steps-0.js", "failures-0.js"}
    page.close()


def test_a_file_that_is_missing_is_told(site: Site, browser: Browser, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(site.folder, copy)
    (copy / "run-1" / "steps-0.js").unlink()
    page, _, _ = opened(browser)
    page.goto(f"file://{copy}/run-1.html#/tests")
    page.locator(".row").nth(10).click()
    expect(page.locator(".trouble")).to_have_text(
        "run-1/steps-0.js can't be loaded: is the report's folder whole?"
    )
    page.close()


@pytest.mark.skipif(effort(quick=True, long=False), reason="a minute: tox -e long")
def test_a_large_run_opens(browser: Browser, tmp_path: Path) -> None:
    large = Site(tmp_path, tests=2500, steps=30, on=4)
    page, complaints, _ = opened(browser)
    for name in VIEWS:
        page.goto("about:blank")
        start = time.perf_counter()
        view(page, large, name)
        print(f"{name}: {time.perf_counter() - start:.2f} s")
    view(page, large, "tests")
    assert rows(page) == 10_000
    assert page.locator(".row").count() < 60
    assert complaints == []
    size = sum(file.stat().st_size for file in large.folder.rglob("*") if file.is_file())
    print(f"{size >> 20} MiB, index {(large.folder / 'run-1' / 'index.js').stat().st_size >> 10} KiB")
    page.close()


def screenshot(page: Page, name: str) -> None:
    folder = os.environ.get("MEMTYPE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder, f"{name}.png"))
