"""Searches the space of the tutorial and takes pictures of its pages; ``make figures`` runs it.

python docs/screens.py [light] [dark]

It needs Chromium and its driver.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

DOCS = Path(__file__).parent
SPACE = DOCS.parent / "benchmarks/retrain/digits.yaml"
TRIAL = 35
WIDTH = 1100
SECONDS = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def tftas(folder: Path, *args: str) -> subprocess.Popen[bytes]:
    """Begin a command in a working directory."""
    return subprocess.Popen([sys.executable, "-m", "tftas_optuna", *args], cwd=folder)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the study of a working directory; the value is its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = tftas(folder, "dashboard", "--port", str(port))
    address = f"http://127.0.0.1:{port}/dashboard/studies/1"
    try:
        while server.poll() is None:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(address)
                break
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()


@contextlib.contextmanager
def browser(scheme: str, profile: Path) -> Iterator[webdriver.Chrome]:
    """Start Chromium, light or dark."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    chromium = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        yield chromium
    finally:
        chromium.quit()


def take(chromium: webdriver.Chrome, url: str, text: str, height: int, name: str) -> None:
    """Take a picture of the top of a page, once it shows a text."""
    chromium.set_window_size(WIDTH, height)
    chromium.get(url)
    WebDriverWait(chromium, SECONDS).until(
        lambda _: text in chromium.find_element(By.TAG_NAME, "body").text
    )
    time.sleep(2)  # what is drawn moves into place
    path = DOCS / name
    chromium.save_screenshot(str(path))
    # A page has few colours.
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def main(*schemes: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tftas(folder, "run", "--space", str(SPACE), "--n-trials", "200", "-q").wait()
        tftas(folder, "report", "--out", "report.html").wait()
        with serving(folder) as address:
            for scheme in schemes or ("light",):
                mark = "" if scheme == "light" else f"-{scheme}"
                with browser(scheme, folder / scheme) as chromium:
                    take(chromium, address, "Best Trials", 1280, f"dashboard{mark}.png")
                    page = f"{address}/trials?numbers={TRIAL}"
                    take(chromium, page, "block", 1240, f"dashboard-trial{mark}.png")
                    report = (folder / "report.html").as_uri()
                    take(chromium, report, "Commands", 1000, f"report{mark}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
