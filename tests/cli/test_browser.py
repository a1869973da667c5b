"""What somebody sees of a study: the pages of optuna-dashboard and a report, in Chromium."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest_cli import Run
from dashboards import serving
from programs import Begin

from tftas_optuna import pareto_front
from tftas_optuna.storage import load_study
from tftas_optuna.study.front import Candidate

pytestmark = pytest.mark.slow

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
    "--window-size=1280,1000",
)


def browser_and_driver() -> tuple[str, str]:
    """Find Chromium and its driver; without them skip, or in continuous integration fail."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "no Chromium here: install chromium and chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return browser, driver


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    binary, driver = browser_and_driver()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chromium = webdriver.Chrome(options, webdriver.ChromeService(driver))
        # A request of Optuna's own pages takes seconds on a busy machine.
        chromium.set_page_load_timeout(SECONDS)
        scheme = {"name": "prefers-color-scheme", "value": request.param}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        try:
            yield chromium
        finally:
            chromium.quit()


@pytest.fixture(scope="module")
def address(searched: Path, begin: Begin) -> Iterator[str]:
    with serving(begin, searched) as url:
        yield url


@pytest.fixture(scope="module")
def member(searched: Path) -> Candidate:
    """The member of the front with the fewest parameters."""
    return pareto_front(load_study(f"sqlite:///{searched}/tftas.db"))[0]


def open_page(browser: Any, url: str, *texts: str) -> str:
    """Open a page, which comes in parts, wait until it shows texts, and return all it shows."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(url)

    def seen() -> str:
        return str(browser.execute_script("return document.body.innerText"))

    for text in texts:
        WebDriverWait(browser, SECONDS).until(
            lambda _, text=text: text in seen(), f"{url} shows no {text!r}"
        )
    return seen()


def complaints(browser: Any) -> list[str]:
    """Return warnings and errors of the console since it was asked last; none is ignored."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


def test_the_list_names_the_study(browser: Any, address: str) -> None:
    assert "small" in open_page(browser, f"{address}/dashboard", "MAXIMIZE, MINIMIZE")
    assert complaints(browser) == []


def test_the_page_of_a_study_draws_its_front(browser: Any, address: str) -> None:
    texts = ("Best Trials", "Pareto Front", "dss_collapsed", "Hyperparameter Importance")
    open_page(browser, f"{address}/dashboard/studies/1", *texts)
    points = "return document.querySelectorAll('.js-plotly-plot')[0].data.map(t => t.x.length)"
    assert sum(browser.execute_script(points)) == 24
    assert complaints(browser) == []


def test_the_note_of_a_study_is_text_and_not_markup(browser: Any, address: str) -> None:
    shown = open_page(browser, f"{address}/dashboard/studies/1/note", "24 trials")
    assert "bounds\tn_params <= 150.00k" in shown
    assert "tftas-optuna front --study-name small" in shown
    for mark in ("tftas-optuna-begin", "|---|", "\\_", "**"):
        assert mark not in shown
    assert complaints(browser) == []


def test_a_trial_has_its_note(browser: Any, address: str, member: Candidate) -> None:
    page = f"{address}/dashboard/studies/1/trials?numbers={member.trial}"
    shown = open_page(browser, page, member.architecture.summary())
    for text in (
        f"dss\t{member.exact['dss']:,.6g}",
        "Within the bounds: n_params <= 150.00k.",
    ):
        assert text in shown
    assert complaints(browser) == []


def test_a_report_draws_all_its_figures(
    browser: Any, tftas: Run, searched: Path, tmp_path: Path, member: Candidate
) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    path = tmp_path / "report.html"
    done = tftas(searched, "report", "--out", str(path))
    assert done.returncode == 0, done.stderr
    shown = open_page(browser, path.as_uri(), "Commands")
    assert member.architecture.summary() in shown
    wanted = len(browser.find_elements("css selector", ".figure"))
    drawn = "return document.querySelectorAll('.figure svg.main-svg:first-of-type').length"
    WebDriverWait(browser, SECONDS).until(lambda _: browser.execute_script(drawn) >= wanted > 4)
    assert not browser.find_element("id", "trouble").is_displayed()
    assert complaints(browser) == []
