"""The live page in a real Chromium: what it shows, that anybody can use it, and that it asks nobody else."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from emotionnet.weights import LABELS
from tests.integration.conftest import FPS
from tests.support.browser import Tab, open_browser
from tests.support.daemon import Daemon, endless
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port, poll

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
STREAMS = ("door", "hall", "lobby", "yard")
TOKEN = "hunter2-open-sesame"


@pytest.fixture(scope="module")
def browser(require_server: Callable[[str], None]) -> Iterator[Browser]:
    require_server("chromium")
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, clip: Path, server: RedisServer) -> Iterator[Daemon]:
    """Four cameras that run, and one that is not there."""
    streams = {name: endless(clip, FPS) for name in STREAMS} | {"attic": {"source": f"rtsp://127.0.0.1:{free_port()}/"}}
    with Daemon(tmp_path_factory.mktemp("page"), streams, server.url, http={"preview": True},
                responsible_use={"purpose": "a test"}) as daemon:
        daemon.wait_for(lambda scrape: all(
            scrape("events_published_total", stream=name) > 0 for name in STREAMS), "events of all")
        yield daemon


@pytest.fixture
def open_tab(browser: Browser, daemon: Daemon) -> Iterator[Callable[..., Tab]]:
    tabs: list[Tab] = []

    def open_tab(port: int | None = None, **options: object) -> Tab:
        tabs.append(Tab(browser, f"http://127.0.0.1:{port or daemon.port}/", **options))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_shows_streams_faces_and_events_to_everybody(
    size: dict[str, int], scheme: str, open_tab: Callable[..., Tab], daemon: Daemon,
) -> None:
    tab = open_tab(viewport=size, color_scheme=scheme)
    page = tab.page

    expect(page.get_by_role("status")).to_contain_text("4 of 5 streams run; trouble: attic")
    door = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="door", exact=True))
    expect(door.locator(".state")).to_have_text("running")
    expect(door.locator(".rate")).to_have_text(re.compile(r"^\d+\.\d/s$"))
    expect(door.locator(".latency")).to_have_text(re.compile(r"^\d+ ms$"))
    expect(door.locator(".size")).to_have_text(re.compile("320.240"))
    expect(door.locator(".faces .name")).to_have_text(re.compile(rf"^\d+ ({'|'.join((*LABELS, 'unsure'))})$"))
    expect(door.locator(".shares")).to_have_text(re.compile(r"last 5 min: \w+ \d+\s%"))
    attic = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="attic"))
    expect(attic.locator(".error")).to_contain_text("127.0.0.1")
    expect(page.locator("#events tr").nth(5)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"
    assert tab.violations() == []
    assert tab.errors == []
    assert {url.split("/")[2] for url in tab.asked} == {f"127.0.0.1:{daemon.port}"}


def test_it_is_used_with_the_keyboard_alone(open_tab: Callable[..., Tab]) -> None:
    page = open_tab(viewport=DESK).page
    expect(page.locator("#events tr").first).to_be_visible()

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the streams"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "streams"
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    first = page.locator("#events tr").first.inner_text()
    time.sleep(1.5)      # three messages
    assert page.locator("#events tr").first.inner_text() == first
    expect(page.locator("#newer")).to_have_text(re.compile(r"^[1-9]\d* newer$"))
    page.keyboard.press("Enter")
    expect(page.locator("#newer")).to_have_text("")
    assert page.locator("#events tr").first.inner_text() != first      # what came in the meantime is there at once
    frames = page.locator("#events tr").evaluate_all(
        "rows => rows.map(({cells}) => cells[1].innerText + cells[2].innerText)")
    assert len(frames) == len(set(frames))


def test_a_page_in_the_background_disconnects_and_goes_on_when_it_is_seen_again(open_tab: Callable[..., Tab]) -> None:
    page = open_tab(viewport=DESK).page
    turn = """hidden => { Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
                         document.dispatchEvent(new Event("visibilitychange")); }"""
    first = page.locator("#events tr").first
    expect(first).to_be_visible()

    page.evaluate(turn, True)
    page.wait_for_timeout(500)
    before = first.inner_text()
    page.wait_for_timeout(1500)      # three messages
    assert first.inner_text() == before
    page.evaluate(turn, False)
    expect(first).not_to_have_text(before)


def test_a_picture_comes_when_it_is_asked_for(open_tab: Callable[..., Tab]) -> None:
    tab = open_tab(viewport=DESK)
    door = tab.page.locator('[data-stream="door"]')
    image = door.locator("img")
    expect(image).to_be_hidden()
    assert not any("picture" in url for url in tab.asked)

    door.get_by_role("button", name="Picture of door").click()
    expect(image).to_be_visible()
    expect(image).to_have_attribute("alt", re.compile("door: "))
    poll(lambda: image.evaluate("image => image.naturalWidth") == 320, 10, "no picture")
    first = image.get_attribute("src")
    expect(image).not_to_have_attribute("src", first or "")
    tab.page.route("**/picture", lambda route: (time.sleep(1), route.continue_()))      # one is under way
    with tab.page.expect_request("**/picture"):
        pass
    door.get_by_role("button", name="Picture of door").click()
    expect(image).to_be_hidden()
    tab.page.wait_for_timeout(2500)      # longer than it takes
    expect(image).to_be_hidden()
    assert tab.violations() == []
    assert tab.errors == []


def test_a_daemon_that_comes_back_is_shown_again(
    open_tab: Callable[..., Tab], tmp_path: Path, clip: Path, server: RedisServer,
) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url) as daemon:
        page = open_tab(daemon.port, viewport=DESK).page
        expect(page.get_by_role("status")).to_contain_text("1 of 1 stream runs")
        daemon.end()
        expect(page.get_by_role("status")).to_have_text("No connection to the daemon; trying again.")
        daemon.start()
        expect(page.get_by_role("status")).to_have_text("1 of 1 stream runs", timeout=30_000)
        before = page.locator("#events tr").first.inner_text()
        expect(page.locator("#events tr").first).not_to_have_text(before)


def test_from_elsewhere_the_page_asks_for_the_token(
    open_tab: Callable[..., Tab], tmp_path: Path, clip: Path, server: RedisServer,
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url, http={
            "token_file": str(tmp_path / "token"), "preview": True}) as daemon:
        tab = open_tab(daemon.port, viewport=DESK, extra_http_headers={"Forwarded": "for=10.8.0.7"})
        page = tab.page
        field = page.get_by_label("Token of the daemon")
        expect(field).to_be_focused()
        assert tab.violations() == []
        field.fill("another")
        page.keyboard.press("Enter")
        expect(page.get_by_text("That is not the daemon's token.")).to_be_visible()
        field.fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("1 of 1 stream runs")
        expect(field).to_be_hidden()
        page.get_by_role("button", name="Picture of door").click()
        expect(page.locator('[data-stream="door"] img')).to_be_visible()
        assert all(TOKEN not in url for url in tab.asked)


def test_a_daemon_that_counts_shows_counts(
    open_tab: Callable[..., Tab], tmp_path: Path, clip: Path, server: RedisServer,
) -> None:
    with Daemon(tmp_path, {"door": endless(clip, FPS)}, server.url, privacy={"mode": "aggregate"}) as daemon:
        tab = open_tab(daemon.port, viewport=DESK)
        expect(tab.page.get_by_text("No group of faces yet; single ones are not told.")).to_be_visible()
        expect(tab.page.get_by_role("heading", name="Events")).to_be_hidden()
        assert tab.page.locator(".faces li").count() == 0
        assert tab.violations() == []
        assert tab.errors == []
