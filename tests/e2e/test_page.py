"""The page in headless Chromium, as somebody uses it: by keyboard and mouse, with real video."""

import json
import shutil
import time
from collections.abc import Callable

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.support.page import PLAYER, Page

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="Chromium and its driver are not installed (apt: chromium, chromium-driver)",
    ),
]

JOB = {
    "job_id": "20260101-000000-abcdef", "status": "running", "submitted_at": "2026-01-01T00:00:00Z",
    "spec": {"select": {"uids": ["nobody"]}}, "failures": [],
    "progress": {
        "takes": 1, "takes_prepared": 1, "takes_done": 0, "units": 2, "units_done": 0,
        "units_failed": 0, "clips": 40, "clips_skipped": 0, "clips_done": 0, "clips_failed": 0,
        "clips_invalid": 0, "clips_reached": 0, "clips_asked": 40, "clips_per_s": 2.5,
        "seconds_left": 4, "seconds": 3,
    },
}  # fmt: skip


def test_takes_are_listed_filtered_and_opened_by_keyboard(page: Page) -> None:
    page.go("")
    page.wait("document.querySelectorAll('a.open').length >= 2")
    page.press("/", "DUET")
    page.wait("document.querySelectorAll('a.open').length === 1")
    assert "q=DUET" in page.driver.current_url
    page.press(Keys.ARROW_DOWN, Keys.ENTER)
    page.wait(f"{PLAYER}?.cameras.length === 7")
    assert page.texts(".tile-name")[0] == "1 aria01_rgb ego"
    page.driver.back()
    page.wait("document.querySelectorAll('a.open').length === 1")
    page.press("/", *[Keys.BACKSPACE] * 4, "no such take")
    page.wait("document.querySelector('.notice')")
    assert "No takes" in page.texts(".notice")[0]


def test_a_short_camera_ends_early_and_the_others_go_on(page: Page) -> None:
    page.open("beta_duet01_2")
    page.press(Keys.END)
    page.wait("document.querySelector('.tile.over')")
    assert "ended" in page.texts(".tile.over .tile-state")[0]
    assert page.js("document.querySelectorAll('.tile.over').length") == 1


def test_cameras_play_in_step(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.press(Keys.HOME, Keys.SPACE)
    page.wait(f"{PLAYER}.playing && {PLAYER}.time > 1")
    page.wait(f"!{PLAYER}.held && {PLAYER}.spread !== null && {PLAYER}.spread < 0.05")
    page.press(Keys.SPACE)
    assert not page.js(f"{PLAYER}.playing")
    _same_frame(page)
    page.js(f"{PLAYER}.seek(4.02)")
    before = _same_frame(page)
    assert before == 120
    page.press(".", ".", ".")
    assert _same_frame(page) == before + 3
    page.press(",")
    assert _same_frame(page) == before + 2
    page.press(Keys.ARROW_LEFT)
    assert _same_frame(page) == 0
    assert "0:00.00" in page.texts(".now")[0]
    page.press("2")
    assert page.js("document.querySelectorAll('.tile-face[aria-pressed=true]').length") == 1
    page.press("0")
    assert page.js("document.querySelectorAll('.tile-face[aria-pressed=true]').length") == 0
    # Who enlarged a camera by the mouse plays with the space key, all the same.
    page.click(".tile:nth-child(2) .tile-face")
    page.press(Keys.SPACE)
    assert page.js(f"{PLAYER}.playing")
    assert page.js("document.querySelectorAll('.tile-face[aria-pressed=true]').length") == 1
    page.press(Keys.SPACE, "0")


def _same_frame(page: Page) -> int:
    """The frame that every camera shows once all have come to rest: the one the page says."""
    page.wait(f"{PLAYER}.cameras.every(c => !c.video.seeking && c.video.readyState >= 2)")
    frame = page.js(f"{PLAYER}.frame")
    _until(lambda: page.shown() == [frame] * 6, lambda: f"{page.shown()}, not {frame}")
    return int(frame)


def _until(done: Callable[[], bool], words: Callable[[], str]) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline, words()
        time.sleep(0.05)


def test_a_moment_is_found_in_the_other_cameras(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelector('.track')")
    assert page.drawn(".track canvas") > 4
    page.wait("document.querySelector('.plot canvas')")
    assert page.drawn(".plot canvas") > 4
    track = page.driver.find_element("css selector", ".track")
    ActionChains(page.driver).move_to_element_with_offset(track, 40, -20).click().perform()
    page.wait("document.querySelectorAll('.moment-group .moment').length >= 6")
    groups = page.texts(".moment-group h3")
    assert len(groups) == 6
    assert groups[-1].endswith("(itself, at other times)")
    assert track.get_attribute("role") == "slider"
    assert "similarity" in (track.get_attribute("aria-valuetext") or "")
    assert "clip" in page.texts(".tip")[0]
    # Each number says what it is.
    assert "Score: cosine of a clip's features" in page.texts(".moments")[0]
    legend = page.texts(".legend")[0]
    assert "similarity: mean cosine to the same clip in the other cameras, 0." in legend
    before = page.js(f"{PLAYER}.time")
    page.click(".moment-group:last-child .moment")
    assert page.js(f"{PLAYER}.time") != before
    # One moment, one time: in the list, where the player stands, and on the timeline.
    listed = page.js("document.querySelector('.moment-group:last-child .moment').innerText")
    shown = listed.split()[1]
    assert page.texts(".now")[0].startswith(f"{shown} /")
    assert f", {shown}, clip " in (track.get_attribute("aria-valuetext") or "")
    title = page.js("document.querySelector('.moment-group:last-child .moment').title")
    assert f", {shown}, clip " in title
    # The same by keyboard, from another camera.
    asked = page.texts(".asked")[0]
    page.driver.execute_script("arguments[0].focus()", track)
    page.press(Keys.ARROW_DOWN, Keys.ENTER)
    page.wait(f"document.querySelector('.asked').innerText !== {json.dumps(asked)}")
    assert "No offset was measured" in page.texts("section[aria-labelledby=sync-title]")[0]


def test_the_theme_is_chosen_and_kept(page: Page) -> None:
    page.go("#/jobs")
    page.wait("document.querySelector('.list table, .list .notice')")
    light = page.js("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    page.click("#theme")
    assert page.js("document.documentElement.dataset.theme") == "dark"
    assert page.js("getComputedStyle(document.body).backgroundColor") != light
    # Not by way of about:blank: another renderer may read the storage before it is written there.
    page.driver.refresh()
    assert page.js("document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    assert page.js("document.documentElement.dataset.theme ?? 'system'") == "system"


def test_a_job_has_its_page(extracted: Page) -> None:
    page = extracted
    page.go("#/jobs")
    page.wait("document.querySelector('.jobs a.open')")
    page.click(".jobs a.open")
    page.wait("document.querySelector('.facts-list dd')")
    page.wait("document.querySelector('.log').innerText.trim()")
    assert "succeeded" in page.texts(".status")[0]
    page.wait("document.querySelector('.facts-list a')?.innerText === 'alpha_balance01_1'")
    page.click(".facts-list a")
    page.wait("document.querySelector('.track')")


def test_what_a_job_has_just_made_is_waited_for(extracted: Page) -> None:
    """The service's list of stores is some seconds old."""
    page = extracted
    found = page.js("fetch('/v1/takes/alpha_balance01_1').then(r => r.json())")
    take = found["take_uid"]
    made = {"uids": [take], "encoder": found["stores"][0]["encoder_id"]}
    again = f"JSON.stringify({{...{json.dumps(made)}, at: Date.now()}})"
    late = (
        f"if (path !== '/v1/takes/{take}' || ++asked > 2) return; "
        f"sessionStorage.setItem('takestream-made', {again});"
        "const found = await (await real(path)).json(); return json({...found, stores: []});"
    )
    with page.between(late):
        page.go(f"#/takes/{take}")
        page.wait("document.querySelector('.track')", 15)
        assert page.js("asked") == 3


def test_a_busy_service_is_waited_for(page: Page) -> None:
    busy = (
        "if (path === '/v1/takes' && ++asked < 3) "
        "return json({detail: 'too much'}, asked === 1 ? 429 : 503, {'Retry-After': '1'});"
    )
    with page.between(busy):
        page.go("")
        page.wait("!document.getElementById('busy').hidden")
        page.wait("document.querySelector('a.open')", 10)
        assert page.js("document.getElementById('busy').hidden")
    with page.between("return json({detail: 'no storage'}, 503, {'Retry-After': '60'});"):
        page.go("")
        page.wait("document.querySelector('.notice.bad')")
        assert "No storage. Try again in 60 s." in page.texts(".notice")[0]


def test_the_page_goes_on_when_the_service_is_back(page: Page) -> None:
    with page.between("if (window.gone ?? true) throw new TypeError('Failed to fetch');"):
        page.go("")
        page.wait("document.querySelector('.notice.bad')")
        assert "cannot be reached" in page.texts(".notice")[0]
        page.driver.execute_script("window.gone = false")
        page.wait("document.querySelector('a.open')", 10)


def test_a_job_is_followed_through_a_break_and_stopped_too_late(page: Page) -> None:
    """Its events are cut off twice, and it ends while the person is asked about stopping it."""
    event = "new Blob([`event: progress\\ndata: ${JSON.stringify(job)}\\n\\n`]).stream()"
    script = f"""
        const job = {json.dumps(JOB)};
        if (path.endsWith("/logs")) return new Response("a line");
        if (method === "DELETE") {{ window.ended = true; return json({{detail: "ended"}}, 409); }}
        if (path.endsWith("/events")) {{
          if (++asked === 2) throw new TypeError("Failed to fetch");
          job.progress.clips_reached = 10 * asked;
          return new Response({event});
        }}
        if (window.ended) job.status = "stopped";
        if (path.startsWith("/v1/jobs/")) return json(job);
    """
    with page.between(script):
        page.go(f"#/jobs/{JOB['job_id']}")
        page.wait("document.querySelector('.headline .hint')?.innerText.includes('was lost')")
        page.wait("document.querySelector('.progress')?.innerText.includes('30 of 40')", 10)
        assert "2.5 clips/s, about 4.0 s left" in page.texts(".progress")[0]
        page.click("button.danger")
        page.wait("document.querySelector('dialog[open]')")
        page.press(Keys.TAB, Keys.ENTER)
        page.wait("document.querySelector('.status.stopped')")
        assert page.texts(".notice") == []


def test_a_key_is_asked_for_and_what_is_refused_is_not_kept(page: Page) -> None:
    locked = (
        "if (path.startsWith('/v1/') && headers.Authorization !== 'Bearer right') "
        "return json({detail: 'no'}, 401);"
    )
    with page.between(locked):
        page.go("")
        page.wait("document.querySelector('dialog[open]')")
        page.press("wrong", Keys.ENTER)
        page.wait("document.getElementById('key-why').innerText.includes('not accepted')")
        page.press(Keys.ESCAPE)
        page.wait("document.querySelector('.notice.bad')")
        assert page.js("sessionStorage.getItem('takestream-key')") is None
        page.click(".notice button")
        page.wait("document.querySelector('dialog[open]')")
        page.press("right", Keys.ENTER)
        page.wait("document.querySelector('a.open')")
        page.driver.execute_script("sessionStorage.removeItem('takestream-key')")


def test_thirty_cameras_and_endless_names_have_room(page: Page) -> None:
    name = "a_name_that_does_not_end_" * 8
    streams = [
        {"key": f"{'x' * 60}{n}", "cam_id": "x", "is_ego": n == 3, "video": None} for n in range(30)
    ]
    take = {
        "take_uid": "big", "take_name": name, "task_name": name, "university_name": name,
        "duration_sec": 9, "streams": streams, "stores": [],
    }  # fmt: skip
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    with page.between(f"if (path === '/v1/takes/big') return json({json.dumps(take)});"):
        try:
            page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            page.go("#/takes/big")
            page.wait("document.querySelectorAll('.tile').length === 30", 5)
            page.wait("document.querySelector('.extract')", 5)
            assert page.js("document.documentElement.scrollWidth <= innerWidth")
            # Each within the wall, and none over another.
            boxes = page.js(
                "(w => [...document.querySelectorAll('.tile')].map(t => t.getBoundingClientRect())"
                ".map(b => [b.x - w.x, b.y - w.y, w.right - b.right, w.bottom - b.bottom]))"
                "(document.querySelector('.wall').getBoundingClientRect())"
            )
            assert min(min(box) for box in boxes) > -2
            assert len({(round(box[0]), round(box[1])) for box in boxes}) == 30
        finally:
            page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_camera_without_video_does_not_cut_the_take_short(page: Page) -> None:
    """It may be the longest: its clips are to be reached all the same."""
    lost = (
        "if (!path.startsWith('/v1/takes/') || path.split('/').length > 4) return;"
        "const found = await (await real(path)).json();"
        "found.streams[0].video = null; return json({...found, duration_sec: 60, stores: []});"
    )
    with page.between(lost):
        page.go("#/takes/beta_duet01_2")
        page.wait(f"{PLAYER}?.cameras.filter(c => c.state === 'ready').length === 6")
        assert page.js(f"{PLAYER}.duration") == 60
        page.press(Keys.END)
        assert page.js(f"{PLAYER}.time") > 59


def test_videos_that_are_switched_off_are_said_to_be(page: Page) -> None:
    off = (
        "if (!path.startsWith('/v1/takes/') || path.split('/').length > 4) return;"
        "const found = await (await real(path)).json(); found.videos = false;"
        "for (const one of found.streams) one.video = null; return json(found);"
    )
    with page.between(off):
        page.go("#/takes/beta_duet01_2")
        page.wait("document.querySelectorAll('.tile.dead').length === 7")
        page.wait("document.querySelector('section[aria-label=Licences]')")
        assert set(page.texts(".tile-why")) == {"Videos are switched off at this service."}
        links = "[...document.querySelectorAll('section[aria-label=Licences] a')].map(a => a.href)"
        assert page.js(links)[0] == "https://github.com/perfanalytics/pose2sim/blob/main/LICENSE"
        # The clock runs without them, for the timeline.
        page.press(Keys.END)
        assert page.js(f"{PLAYER}.time") > 6


def test_what_is_not_there_is_said_in_words(page: Page) -> None:
    page.go("#/nothing/here")
    page.wait("document.querySelector('.notice')")
    assert "Nothing here" in page.texts(".notice")[0]


def test_no_complaints_and_no_other_origin(page: Page) -> None:
    """Of all that was done above. Comes last: the logs are emptied when they are read."""
    assert [e for e in page.driver.get_log("browser") if e["level"] == "SEVERE"] == []
    asked = set()
    for entry in page.driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
    assert any("/video" in url for url in asked)
    elsewhere = {url for url in asked if url.startswith(("http", "ws"))}
    assert {url for url in elsewhere if not url.startswith(page.url)} == set()
