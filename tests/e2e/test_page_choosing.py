"""The page: pictures of takes and moments, sorted and chosen takes, the address of a moment."""

import json
import shutil
from dataclasses import replace
from importlib.resources import files

import pytest
import s3fs
from selenium.webdriver.common.action_chains import ActionChains

from service.demo.s3server import ObjectStore
from tests.service.report.test_estimate import MEASURED, of_size
from tests.support.page import PLAYER, Page
from workers.run.size import WorkerSize

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="Chromium and its driver are not installed (apt: chromium, chromium-driver)",
    ),
]
LOADED = "[...document.querySelectorAll('%s')].filter(i => i.complete && i.naturalWidth).length"


def choose(page: Page, row: int) -> None:
    """Check or uncheck a take; at once, since the list may be drawn anew in between."""
    page.driver.execute_script(
        "document.querySelectorAll('input.choose')[arguments[0]].click()", row
    )


def test_takes_have_pictures_and_are_sorted(page: Page) -> None:
    page.go("")
    page.wait(f"{LOADED % '.takes .thumb'} === 2")
    assert page.texts("a.open") == ["alpha_balance01_1", "beta_duet01_2"]
    for order, first in (("ascending", "beta"), ("descending", "alpha"), ("none", "alpha")):
        page.click("th[data-sort=duration] button")
        page.wait(f"document.querySelector('th[data-sort=duration]').ariaSort === '{order}'")
        page.wait(f"document.querySelector('a.open').innerText.startsWith('{first}')")
        # Focus stays on the head, for whoever presses it again.
        assert page.js("document.activeElement.closest('th')?.dataset.sort") == "duration"
    assert "sort" not in page.driver.current_url


def test_chosen_takes_are_extracted_by_one_job_which_runs_again(extracted: Page) -> None:
    page = extracted
    page.go("")
    page.wait("document.querySelectorAll('input.choose').length === 2")
    assert page.js("document.querySelector('.selection').hidden")
    choose(page, 0)
    choose(page, 1)
    page.click("th[data-sort=name] button")
    page.wait("document.querySelector('th[data-sort=name]').ariaSort === 'ascending'")
    page.wait("document.querySelectorAll('input.choose:checked').length === 2")
    assert page.texts(".selection b")[0].startswith("2 takes, 0.02 hours of video")
    # Other tests ask the same service for the second one as nobody has extracted it.
    choose(page, 1)
    assert page.texts(".selection b")[0].startswith("1 take, ")
    page.wait("document.querySelector('#selection-encoder').value")
    page.driver.find_element("xpath", "//button[text()='Extract them']").click()
    page.wait("location.hash.startsWith('#/jobs/')")
    page.wait("document.querySelector('.status.succeeded')", 240)
    first = page.js("location.hash")
    assert "1 take" in page.texts(".progress .hint")[0]
    page.driver.find_element("xpath", "//button[text()='Run again']").click()
    page.wait(f"location.hash !== '{first}' && document.querySelector('.status.succeeded')", 240)
    page.wait(
        "[...document.querySelectorAll('dd')].some(d => d.innerText.startsWith('0 computed'))"
    )


def test_chosen_takes_are_planned_and_priced_first(extracted: Page, s3: ObjectStore) -> None:
    page = extracted
    page.go("")
    page.wait("document.querySelectorAll('input.choose').length === 2")
    choose(page, 0)
    page.wait(
        "document.querySelector('.plan .says')?.innerText.includes(' clips to do in 0 units')"
    )
    said = page.texts(".plan .says")[0]
    assert "1 whole already" in said
    assert "takestream calibrate" in said
    assert page.js("document.querySelector('.plan .row').hidden")
    choose(page, 1)
    page.wait("document.querySelector('.plan .says').innerText.includes('1 not there')")
    assert page.texts(".plan .says p")[0].startswith("efficientnet_lite-")
    # Somebody measures some units meanwhile.
    take = page.js("fetch('/v1/takes/alpha_balance01_1').then(r => r.json())")["stores"][0]
    sizes = (of_size(WorkerSize("a machine", "cpu", 2)),)
    made = replace(MEASURED, device="cpu", sizes=sizes, encoder_ids=(take["encoder_id"],))
    key = f"{take['uri'].rsplit('/', 2)[0]}/calibration/20261127T000000.000000Z.json"
    storage = s3fs.S3FileSystem(**s3.storage_options())
    storage.pipe_file(key, json.dumps(made.facts()).encode())
    try:
        page.js("document.querySelector('#selection-encoder').dispatchEvent(new Event('change'))")
        page.wait("!document.querySelector('.plan .row').hidden")
        page.driver.execute_script(
            "for (const [id, value] of [['workers', '3'], ['instance', 'c7i.4xlarge']]) {"
            "const input = document.querySelector(`#plan-${id}`);"
            "input.value = value; input.dispatchEvent(new Event('change')); }"
        )
        page.wait("document.querySelector('.plan .says').innerText.includes('USD at list price')")
        assert "on 3 workers: " in page.texts(".plan .says")[0]
    finally:
        storage.rm_file(key)
    page.driver.find_element("xpath", "//button[text()='Choose none']").click()
    assert page.js("document.querySelector('.selection').hidden")


def test_a_job_that_runs_again_is_the_same_job(extracted: Page) -> None:
    page = extracted
    body = {"encoder": "efficientnet_lite", "timeline": "pts", "grid": {"stride": 32}}
    sent = json.dumps({**body, "strict": True, "select": {"take_names": ["alpha_balance01_1"]}})
    post = "fetch('/v1/jobs', {method: 'POST', headers: {'Content-Type': 'application/json'},"
    first = page.js(f"{post} body: {json.dumps(sent)}}}).then(r => r.json())")
    page.go(f"#/jobs/{first['job_id']}")
    page.wait("document.querySelector('.status.succeeded')", 240)
    page.driver.find_element("xpath", "//button[text()='Run again']").click()
    page.wait(f"!location.hash.includes('{first['job_id']}')")
    again = page.js("location.hash.split('/').pop()")
    spec = page.js(f"fetch('/v1/jobs/{again}').then(r => r.json()).then(j => j.spec)")
    assert spec == first["spec"]
    assert spec["timeline"]["kind"] == "pts"
    page.wait("document.querySelector('.status.succeeded')", 240)


def test_a_moment_has_pictures_an_address_and_code(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelector('.track')")
    page.js(f"{PLAYER}.seek(3.3)")
    page.wait("location.hash.includes('t=3.30')")
    page.press("f")
    page.wait(f"{LOADED % '.moment .thumb'} >= 4")
    address = page.driver.current_url
    page.driver.get("about:blank")
    page.driver.get(address)
    page.wait(f"Math.abs(({PLAYER}?.time ?? 0) - 3.3) < 0.01")
    page.wait("document.querySelector('#uses-title')")
    page.driver.find_element("xpath", "//button[text()='Copy as Python']").click()
    page.wait("document.querySelector('#uses-title ~ [role=status]').innerText")
    lines = page.texts("#uses-title ~ pre")[0]
    uri = page.js(
        "fetch('/v1/takes/alpha_balance01_1').then(r => r.json()).then(t => t.stores[0].uri)"
    )
    assert f'takestream.open("{uri}")' in lines
    page.driver.find_element("xpath", "//button[text()='Copy as curl']").click()
    page.wait("document.querySelector('#uses-title ~ pre').innerText.startsWith('curl')")
    assert "start=3.30&end=3.31'" in page.texts("#uses-title ~ pre")[0]


def test_a_moment_is_looked_for_in_all_takes(extracted: Page, s3: ObjectStore) -> None:
    page = extracted
    sent = json.dumps({"encoder": "efficientnet_lite", "grid": {"stride": 64}})
    post = "fetch('/v1/jobs', {method: 'POST', headers: {'Content-Type': 'application/json'},"
    job = page.js(f"{post} body: {json.dumps(sent)}}}).then(r => r.json())")
    page.go(f"#/jobs/{job['job_id']}")
    page.wait("document.querySelector('.status.succeeded')", 240)
    made = page.js(f"fetch('/v1/jobs/{job['job_id']}').then(r => r.json())")
    folder = f"{made['spec']['output']}/{made['encoder_id']}"
    storage = s3fs.S3FileSystem(**s3.storage_options())
    try:
        assert storage.exists(f"{folder}/means.parquet")
        page.go(f"#/takes/alpha_balance01_1?encoder={made['encoder_id']}&t=3.00")
        page.wait("document.querySelector('#moment-where')")
        page.wait(f"Math.abs(({PLAYER}?.time ?? 0) - 3) < 0.01")
        assert "has no text side" in page.texts("#moments-title ~ .hint")[0]
        page.driver.execute_script("document.querySelector('#moment-where').value = 'all'")
        page.press("f")
        page.wait(f"{LOADED % '.everywhere .thumb'} >= 2")
        names = page.texts(".everywhere b")
        assert set(names) == {"beta_duet01_2"}
        scores = [float(score) for score in page.texts(".everywhere .score")]
        assert scores == sorted(scores, reverse=True)
        assert "No clip of any take is more alike." in page.texts(".moments > .hint")[0]
        to = page.js("new URL(document.querySelector('.everywhere a').href).hash")
        page.click(".everywhere a")
        page.wait("document.querySelector('h1')?.innerText.includes('beta_duet01_2')")
        page.wait(f"Math.abs(({PLAYER}?.time ?? 0) - {to.rpartition('t=')[2]}) < 0.01")
    finally:
        # Other tests ask the same service for the second take as nobody has extracted it.
        storage.rm(folder, recursive=True)


def test_the_map_is_coloured_by_time(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelector('.plot canvas')")
    before = page.drawn(".plot canvas")
    page.driver.execute_script(
        "const s = document.querySelector('#map-color');"
        "s.value = 'time'; s.dispatchEvent(new Event('change'))"
    )
    assert page.drawn(".plot canvas") > before
    assert not page.js("document.querySelector('.time-scale').hidden")


def test_cameras_are_compared_over_the_take_and_now(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelectorAll('.matrix .pair').length === 30")
    over = page.texts(".matrix .pair")
    page.js(f"{PLAYER}.seek(3.3)")
    page.driver.execute_script(
        "const s = document.querySelector('#pairs-when');"
        "s.value = 'now'; s.dispatchEvent(new Event('change'))"
    )
    page.wait(f"{PAIRS} !== {json.dumps(','.join(over))}")
    now = page.js(PAIRS)
    page.js(f"{PLAYER}.seek(6.5)")
    page.wait(f"{PAIRS} !== {json.dumps(now)}")


PAIRS = "[...document.querySelectorAll('.matrix .pair')].map(c => c.innerText).join()"


def test_the_timeline_is_zoomed_and_follows(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelector('.track')")
    words = page.js("document.querySelector('#encoder option:checked').innerText")
    assert words.startswith("efficientnet_lite, 32 frames every 16 at 30 a second (complete, ")
    length = page.js(f"{PLAYER}.duration")
    page.js(f"{PLAYER}.seek(3)")
    page.driver.execute_script("document.querySelector('.track').focus()")
    assert not page.js(SHOWN)
    page.press("+", "+")
    low, high = page.js(SHOWN)
    assert high - low == pytest.approx(length / 4, abs=0.02)
    assert low < 3 < high
    # The moment under the pointer is that of the part which is shown.
    track = page.driver.find_element("css selector", ".track")
    ActionChains(page.driver).move_to_element(track).click().perform()
    assert page.js(f"{PLAYER}.time") == pytest.approx((low + high) / 2, abs=0.05)
    page.js(f"{PLAYER}.seek({length - 0.5})")
    page.wait(f"{SHOWN}[0] > {high}")
    low, high = page.js(SHOWN)
    assert low < length - 0.5 <= high <= length + 0.01
    page.driver.execute_script("document.querySelector('.track').focus()")
    page.press("-", "-", "-")
    assert not page.js(SHOWN)
    assert page.js("document.querySelector('.zoom button').disabled")


SHOWN = (
    "(r => r.hidden ? null : r.getAttribute('aria-valuetext').split(' to ')"
    ".map(t => 60 * t.split(':')[0] + +t.split(':')[1]))(document.querySelector('.zoom input'))"
)


def test_annotations_are_lanes_and_are_searched(extracted: Page) -> None:
    page = extracted
    page.open("alpha_balance01_1")
    page.wait("document.querySelectorAll('.lane .stretch').length === 5")
    assert page.js("document.querySelectorAll('.lane .point').length") == 8
    page.click("#lanes-search")
    page.press("leg")
    page.wait("document.querySelectorAll('.annotation').length === 3")
    assert page.js("document.querySelectorAll('.lane .pale').length") == 10
    page.click(".annotation")
    page.wait(f"Math.abs({PLAYER}.time - 0.8) < 0.01")
    page.wait("document.querySelector('.lanes .hint').innerText.includes('leg out')")


def test_the_output_is_looked_over(extracted: Page) -> None:
    page = extracted
    page.go("#/overview")
    page.wait("document.querySelector('.stack')")
    assert "of 2 takes complete" in page.js("document.querySelector('.stack').ariaLabel")
    page.driver.find_element("link text", "Its takes").click()
    page.wait("location.hash.includes('extracted=')")
    page.wait("document.querySelector('a.open')")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    "route", ["", "#/takes/alpha_balance01_1", "#/overview", "#/jobs", "#/jobs/first"]
)
def test_nobody_is_kept_out(extracted: Page, route: str, theme: str) -> None:
    """Rules of axe-core: names, roles, contrast, keyboards."""
    page = extracted
    if route.endswith("first"):
        page.go("#/jobs")
        page.wait("document.querySelector('.jobs a.open')")
        route = page.js("new URL(document.querySelector('.jobs a.open').href).hash")
    page.go(route)
    page.driver.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    page.wait("document.querySelector('.takes, .matrix .pair, .stack, .jobs, .facts-list dd')")
    if not route:
        choose(page, 0)
        page.wait("document.querySelector('.plan .says .hint')")
    if route.startswith("#/takes"):
        page.press("f")
        page.wait("document.querySelector('.moment')")
    page.driver.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text())
    found = page.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert {v["id"]: [n["target"] for n in v["nodes"]] for v in found["violations"]} == {}
    assert len(found["passes"]) > 15
