"""The service's page in headless Chromium."""

import base64
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains

from service.demo.footage import read_frame_number

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --window-size=1440,900"
)
PLAYER = "document.querySelector('.view').player"
# Stands between the page and the service: `answer` gives a Response, throws, or gives nothing.
BETWEEN = """
const real = window.fetch;
const json = (body, status = 200, headers = {}) =>
  new Response(JSON.stringify(body), {status, headers});
window.asked = 0;
window.fetch = async (url, options = {}) =>
  (await answer(new URL(url).pathname, options)) || real(url, options);
async function answer(path, {method = "GET", headers = {}}) { %s }
"""


class Page:
    """The page in a browser."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url.rstrip("/")

    def go(self, route: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}/{route}")

    def js(self, expression: str) -> Any:
        return self.driver.execute_script(f"return {expression}")

    def wait(self, expression: str, seconds: float = 60) -> Any:
        """The first true value of the expression."""
        deadline = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < deadline, (
                f"{expression}\n{self.js('document.body.innerText')}"
            )
            time.sleep(0.05)
        return value

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def texts(self, selector: str) -> list[str]:
        return list(self.js(f"[...document.querySelectorAll('{selector}')].map(e => e.innerText)"))

    def open(self, name: str) -> None:
        """A take's page, from the list of takes."""
        self.go("")
        self.wait("document.querySelector('a.open')")
        self.driver.find_element("link text", name).click()
        self.wait(f"{PLAYER}?.cameras.every(c => c.state === 'ready' && c.video.readyState >= 2)")

    @contextmanager
    def between(self, answer: str) -> Iterator[None]:
        """The body of `answer(path, options)`, for what the service does not do on demand."""
        command = "Page.addScriptToEvaluateOnNewDocument"
        made = self.driver.execute_cdp_cmd(command, {"source": BETWEEN % answer})
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)
            self.driver.get("about:blank")

    def shown(self) -> list[int | None]:
        """The number burned into the picture of each camera, all read at one moment."""
        pictures = self.js(
            f"{PLAYER}.cameras.map(({{video}}) => {{"
            "const canvas = document.createElement('canvas');"
            "[canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];"
            "canvas.getContext('2d').drawImage(video, 0, 0); return canvas;"
            "}).map(canvas => canvas.toDataURL('image/png'))"
        )
        images = [Image.open(io.BytesIO(base64.b64decode(p.partition(",")[2]))) for p in pictures]
        return [read_frame_number(np.asarray(image.convert("RGB"))) for image in images]

    def drawn(self, selector: str) -> int:
        """How many different colours a canvas has."""
        return int(
            self.driver.execute_script(
                "const c = document.querySelector(arguments[0]);"
                "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
                "return new Set(new Uint32Array(d.buffer)).size",
                selector,
            )
        )
