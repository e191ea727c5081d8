"""The report in a real browser (Debian's chromium, off the disk): it sorts, plays in step, stays on the page, and runs nothing hostile.

One browser and one site for all tests. `make browser` installs it (Debian or Ubuntu, as root); without it, and without selenium, the tests
are skipped with the reason. AVBENCH_SCREENSHOTS=docs writes the pages' pictures anew, the gallery's where the runs
in AVBENCH_SCREENSHOT_RUNS have media.
"""

import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_runs import HOSTILE, gallery_runs, generation_runs, many_clips, training_run

from avbench.board.columns import load_reported
from avbench.report import write_site

pytestmark = pytest.mark.slow  # about a minute on two idle cores

ROOT = Path(__file__).parents[2]
WAIT = 120  # seconds: a busy machine starts eight videos slowly
STEP = 0.050  # seconds that tracks may be apart
LIGHT = 2_000_000  # bytes before the first play
PHONE, DESK = (390, 844), (1280, 1500)
MOVIES = "[...document.querySelectorAll('video')]"


class Browser:
    """A page under test, and what it said and asked for."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.requests: list[str] = []
        self.console: list[str] = []

    def open(self, page: Path, size: tuple[int, int] = DESK, *, dark: bool = False, fragment: str = "") -> None:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
        self.driver.get("about:blank")
        self.collect()
        self.requests, self.console = [], []
        self.driver.get(page.as_uri() + fragment)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def until(self, script: str) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT, poll_frequency=0.1).until(lambda driver: driver.execute_script(f"return {script}"), script)

    def collect(self) -> None:
        """Add what was asked for and said since the last call."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
        self.console += [entry["message"] for entry in self.driver.get_log("browser")]

    def files(self) -> list[Path]:
        """The files that the page has asked for; fails where it asked for anything else."""
        self.collect()
        outside = [url for url in self.requests if not url.startswith(("file://", "data:", "about:"))]
        assert not outside
        return [Path(url.removeprefix("file://").partition("#")[0]) for url in self.requests if url.startswith("file://")]

    def quiet(self) -> None:
        """No word on the console, no request beyond the disk."""
        self.files()
        assert not self.console


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (pip install 'avbench[test]')")
    chromium, driver = _chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    quiet = (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--mute-audio",
        "--disable-background-networking",
    )
    for argument in (*quiet, "--no-first-run", "--disable-component-update", "--autoplay-policy=no-user-gesture-required"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    made.set_page_load_timeout(WAIT)
    made.set_script_timeout(WAIT)
    yield Browser(made)
    made.quit()


def _chromium() -> tuple[str, str]:
    """Paths of the browser and its driver; skips where they are not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium with chromedriver here: `make browser` installs them (Debian or Ubuntu, as root)")
    return chromium, driver


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    gallery_runs(folder / "runs")
    training_run(folder / "out" / "first", stage=HOSTILE)
    training_run(folder / "out" / "second", name=HOSTILE)
    write_site(folder / "site", runs_dir=folder / "runs", training_dir=folder / "out")
    return folder / "site"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated")
    write_site(folder / "site", runs_dir=generation_runs(folder / "runs"), training_dir=folder / "none")
    return folder / "site"


def gallery(site: Path) -> Path:
    (page,) = site.glob("gallery-*.html")
    return page


def column(browser: Browser, place: int) -> list[str]:
    rows = "[...document.querySelectorAll('table.board')[0].tBodies[0].rows]"
    values: list[str] = browser.run(f"return {rows}.filter(r => !r.hidden).map(r => r.cells[arguments[0]].dataset.sort)", place)
    return values


def test_tables_sort_by_value_best_first_with_absent_values_last(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    headers = browser.run("return [...document.querySelector('table.board').tHead.rows[0].cells].map(c => c.textContent.trim())")
    for title, best_first in (("PSNR dB ↑", True), ("LPIPS ↓", False)):
        place = headers.index(title)
        for descending in (best_first, not best_first):
            browser.run(
                "document.querySelectorAll('table.board')[0].tHead.rows[0].cells[arguments[0]].querySelector('button').click()", place
            )
            values = column(browser, place)
            numbers = [float(value) for value in values if value is not None]
            assert numbers == sorted(numbers, reverse=descending)
            assert None not in values[: len(numbers)]
    order = browser.run("return document.querySelectorAll('table.board')[0].tHead.rows[0].cells[arguments[0]].ariaSort", place)
    assert order == "descending"
    browser.quiet()


def test_a_table_sorts_from_the_keyboard(browser: Browser, site: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(site / "index.html")
    before = column(browser, 0)
    browser.run("document.querySelectorAll('table.board thead button')[0].focus()")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert column(browser, 0) == sorted(before, key=str.casefold) != before
    browser.quiet()


def test_rows_are_filtered_by_track_status_and_name(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    names = """return [...document.querySelectorAll('section.group')].filter(group => !group.hidden)
        .flatMap(group => [...group.querySelectorAll('tbody tr')]).filter(row => !row.hidden).map(row => row.cells[0].dataset.sort)"""

    def choose(control: str, value: str) -> list[str]:
        change = "box.value = arguments[1]; box.dispatchEvent(new Event('change')); box.dispatchEvent(new Event('input'));"
        shown: list[str] = browser.run(f"const box = document.getElementById(arguments[0]); {change} {names}", control, value)
        return shown

    assert {"both@5k", "sound", "AVTok (VFAL)", "LARP"} <= set(browser.run(names))
    assert choose("track", "audio")[0] == "sound"
    assert "LARP" in choose("track", "video")
    assert "LARP" not in choose("status", "measured")
    choose("track", "")
    assert choose("name", "BOTH") == ["both@5k", "both@9k"]
    choose("columns", "Video")
    shown = "return [...document.querySelector('table.board').tHead.rows[0].cells].filter(c => !c.hidden).map(c => c.textContent)"
    assert browser.run(shown) == ["tokenizer", "kind", "clips", "PSNR dB ↑", "LPIPS ↓"]
    browser.quiet()


def test_one_task_alone_is_shown_when_it_is_chosen(browser: Browser, generated: Path) -> None:
    browser.open(generated / "index.html")
    shown = browser.run(
        """const box = document.getElementById('task'); box.value = 'v2a'; box.dispatchEvent(new Event('change'));
        const groups = [...document.querySelectorAll('section.group')].filter(group => !group.hidden);
        const rows = group => [...group.querySelectorAll('tbody tr')].filter(row => !row.hidden);
        return groups.map(group => [group.querySelector('h2').textContent, rows(group).length])"""
    )
    published = sum(row.kind == "V2A" for table in load_reported() for row in table.rows)
    assert [count for _, count in shown] == [2, published]
    assert shown[0][0].startswith("Video to audio (v2a) on")
    browser.quiet()


def test_every_track_plays_and_stays_within_50_ms_of_the_others(browser: Browser, site: Path) -> None:
    browser.open(gallery(site))
    assert browser.run(f"return {MOVIES}.length") == 3  # one tokenizer has sound alone, one run no media
    browser.driver.find_element("id", "play").click()
    browser.until(f"{MOVIES}.every(v => v.currentTime > 0.05)")
    moments = browser.driver.execute_async_script(
        f"""const done = arguments[0], seen = [], start = performance.now(), sound = document.querySelector('.track.real audio');
        (function look() {{
          seen.push([{MOVIES}.map(v => v.currentTime), sound.currentTime]);
          if (performance.now() - start > 2500) done(seen); else setTimeout(look, 40);
        }})();"""
    )
    assert max(max(pictures) - min(pictures) for pictures, _ in moments) <= STEP
    from_sound = sorted(max(abs(picture - sound) for picture in pictures) for pictures, sound in moments)
    assert from_sound[len(from_sound) // 2] <= STEP  # a starved sound device jumps: it is followed, not foreseen
    (first, _), (last, _) = moments[0], moments[-1]
    assert all(late - early > 1.0 for early, late in zip(first, last, strict=True))
    cursor = browser.run("return document.querySelector('.cursor').style.left")
    assert 20 < float(cursor.removesuffix("%")) <= 100
    browser.until("document.getElementById('play').getAttribute('aria-pressed') === 'false'")  # it ends by itself
    browser.quiet()


def test_generated_clips_play_to_their_condition_on_a_phone_and_a_hostile_class_stays_text(browser: Browser, generated: Path) -> None:
    pages = {title: page for page in generated.glob("gallery-*.html") for title in [page.read_text().split("<h1>")[1].split(":")[0]]}
    wide = "return document.documentElement.scrollWidth"
    browser.open(pages["Gallery, class to both"], PHONE)
    cards = browser.run("return [...document.querySelectorAll('.track')].map(t => [t.querySelector('h2').textContent, t.textContent])")
    assert [title for title, _ in cards[:2]] == ["condition: the class", "the real clip"]
    assert [text.count(HOSTILE) for _, text in cards] == [1, 0, 0, 0]
    assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert browser.run(wide) <= PHONE[0]
    browser.quiet()
    browser.open(pages["Gallery, audio to video"], PHONE)
    assert browser.run("return document.querySelector('.track.given').textContent").count(f"class: {HOSTILE}") == 1
    assert browser.run(
        "return [...document.querySelectorAll('.track')].map(t => [!!t.querySelector('video'), !!t.querySelector('audio')])"
    ) == [
        [False, True],  # the condition
        [True, False],  # the real picture
        [True, False],  # the generated one
        [True, True],  # another real clip, whole
    ]
    browser.driver.find_element("id", "play").click()
    browser.until(f"{MOVIES}.every(v => v.currentTime > 0.5) && document.querySelector('.track.given audio').currentTime > 0.5")
    times = browser.run(f"return {MOVIES}.map(v => v.currentTime)")
    assert max(times) - min(times) <= STEP
    assert browser.run("return parseFloat(document.querySelector('.track.given .cursor').style.left)") > 5
    assert browser.run("return typeof pwned") == "undefined"
    assert browser.run(wide) <= PHONE[0]
    browser.quiet()


def test_one_scrubber_moves_all_and_a_pause_stops_all(browser: Browser, site: Path) -> None:
    browser.open(gallery(site))
    browser.run("const bar = document.getElementById('scrub'); bar.value = 250; bar.dispatchEvent(new Event('change'))")
    browser.until(f"{MOVIES}.every(v => v.readyState > 1 && !v.seeking && Math.abs(v.currentTime - 1.02) < 0.05)")
    spread = browser.run(f"const t = {MOVIES}.map(v => v.currentTime); return Math.max(...t) - Math.min(...t)")
    assert spread <= STEP
    browser.driver.find_element("id", "play").click()
    browser.until(f"{MOVIES}.every(v => v.currentTime > 1.1)")
    browser.run("document.getElementById('play').click()")
    assert browser.run(f"return {MOVIES}.every(v => v.paused)")
    browser.quiet()


def test_one_track_alone_is_heard_and_keys_choose_it(browser: Browser, site: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    def press(key: str) -> None:
        ActionChains(browser.driver).send_keys(key).perform()

    heard = "[...document.querySelectorAll('audio')].filter(a => !a.paused).map(a => a.src.split('/').pop())"
    browser.open(gallery(site))
    press("k")
    browser.until(f"{heard}.join() === 'reference.flac' && document.querySelector('audio').currentTime > 0.1")
    press("3")
    browser.until(f"{heard}.join() === '2.flac'")
    assert browser.run("return document.querySelector('.track button[aria-pressed=true]').ariaLabel") == "sound of both@5k"
    press("1")  # it has no sound: nothing changes
    press("k")
    browser.until(f"{heard}.length === 0")
    assert browser.run(f"return {MOVIES}.every(v => v.paused && v.muted)")
    press("n")
    assert browser.run("return document.getElementById('clip').value") == "1"
    assert browser.run("return document.querySelector('.track button[aria-pressed=true]').ariaLabel") == "sound of both@5k"
    browser.quiet()


def test_a_tokenizers_worst_clip_is_one_click_away_from_the_front_page_and_in_the_gallery(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.run("document.querySelector('a[aria-label=\"worst clips of both@9k\"]').click()")
    browser.until("document.getElementById('clip') && document.getElementById('clip').value === '3'")
    assert "worst clip number 1 of both@9k by PSNR: 27.00" in browser.run("return document.getElementById('message').textContent")
    browser.run("document.querySelector('button[aria-label=\"best clip of both@9k by PSNR\"]').click()")
    assert browser.run("return document.getElementById('clip').value") == "0"
    browser.run("document.querySelector('button[aria-label^=\"worst clip of sound by\"]').click()")
    assert "of sound by PSNR" in browser.run("return document.getElementById('message').textContent")
    browser.run("document.querySelector('button[aria-label=\"best clip of both@9k by PSNR\"]').click()")
    assert "30.00" in browser.run(
        "return [...document.querySelectorAll('.track')].find(t => t.textContent.includes('both@9k')).textContent"
    )
    browser.quiet()


def test_a_hostile_label_stays_text_on_every_page(browser: Browser, site: Path) -> None:
    for page in sorted(site.glob("*.html")):
        browser.open(page)
        if "gallery" in page.name:
            browser.run("document.getElementById('next').click()")
        assert browser.run("return typeof pwned") == "undefined", page.name
        assert browser.run("return document.querySelectorAll('img[src=x]').length") == 0
        browser.quiet()
    browser.open(gallery(site), fragment="#clip=1")
    assert HOSTILE in browser.run("return document.getElementById('clip').selectedOptions[0].textContent")
    assert browser.run("return document.querySelector('.track.real').textContent").count(HOSTILE) == 1


def test_no_page_scrolls_sideways_on_a_phone_and_every_page_is_dark_in_the_dark(browser: Browser, site: Path) -> None:
    for page in sorted(site.glob("*.html")):
        browser.open(page, PHONE, dark=True)
        assert browser.run("return document.documentElement.scrollWidth") <= PHONE[0], page.name
        assert browser.run("return document.documentElement.clientWidth") == PHONE[0]
        paper = browser.run("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert max(paper) < 60
        browser.quiet()


def test_names_in_the_plots_do_not_overlap_as_drawn(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    overlaps = browser.run(
        """const beside = (p, q) => p.x >= q.x + q.width || q.x >= p.x + p.width;
        const meet = (p, q) => !beside(p, q) && p.y + 2 < q.y + q.height - 2 && q.y + 2 < p.y + p.height - 2;
        return [...document.querySelectorAll('svg.plot')].flatMap(svg => {
          const boxes = [...svg.querySelectorAll('text.label')].map(t => [t.textContent, t.getBBox()]);
          return boxes.flatMap(([a, p], i) => boxes.slice(0, i).filter(([, q]) => meet(p, q)).map(([b]) => [a, b]));
        })"""
    )
    assert overlaps == []
    outside = "return [...document.querySelectorAll('svg.plot text.label')].filter(t => t.getBBox().x + t.getBBox().width > 362).length"
    assert browser.run(outside) == 0


def test_pictures_of_a_training_follow_the_slider(browser: Browser, site: Path) -> None:
    browser.open(site / "training.html")
    browser.run("const s = document.querySelector('.film input'); s.value = 1; s.dispatchEvent(new Event('input'))")
    browser.until("document.querySelector('.film img').naturalWidth > 0")
    assert browser.run("return document.querySelector('.film img').getAttribute('src')") == "training/0/00000100.png"
    browser.quiet()


def test_a_thousand_clips_stay_light_until_something_plays(browser: Browser, tmp_path: Path) -> None:
    write_site(tmp_path / "site", runs_dir=many_clips(tmp_path / "runs"), training_dir=tmp_path / "none")
    for page in (gallery(tmp_path / "site"), tmp_path / "site" / "index.html"):
        browser.open(page)
        browser.until("document.readyState === 'complete'")
        asked = browser.files()
        assert not [file for file in asked if file.suffix in (".mp4", ".flac")]
        assert sum(file.stat().st_size for file in asked) < LIGHT
        assert browser.run("return document.querySelectorAll('*').length") < 5000
    browser.open(gallery(tmp_path / "site"))
    assert browser.run("return document.getElementById('clip').options.length") == 1000
    browser.quiet()


def test_the_pages_screenshots_are_of_real_results(browser: Browser, tmp_path: Path) -> None:
    runs = ROOT / os.environ.get("AVBENCH_SCREENSHOT_RUNS", "results")
    folder = ROOT / os.environ["AVBENCH_SCREENSHOTS"] if "AVBENCH_SCREENSHOTS" in os.environ else tmp_path
    done = write_site(tmp_path / "site", runs_dir=runs, split="arcade-mini", training_dir=tmp_path / "none")
    browser.open(tmp_path / "site" / "index.html", (1280, 1560))
    browser.run("const box = document.getElementById('columns'); box.selectedIndex = 1; box.dispatchEvent(new Event('change'))")
    picture(browser, folder / "report.webp")
    if done.num_sampled:
        browser.open(gallery(tmp_path / "site"), (1280, 1250), fragment="#clip=1")
        browser.driver.find_element("id", "play").click()
        browser.until(f"{MOVIES}.every(v => v.currentTime > 1)")
        picture(browser, folder / "gallery.webp")
    browser.quiet()


def picture(browser: Browser, path: Path) -> None:
    """What the browser shows, as a file of a size for a repository."""
    shown = Image.open(io.BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
    assert len(shown.getcolors(2**24) or []) > 100  # something is drawn
    shown.save(path, quality=80)
    assert path.stat().st_size < 200_000
