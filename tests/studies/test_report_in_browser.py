"""The report of a run in Chromium: pip install playwright, and a browser of the system (Debian: chromium)."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from toy_runs import weights

from iagraph.models.state_dicts import write_state_dict
from iagraph.studies.attribution.study import study
from iagraph.studies.runs import Plan

browsers = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, apt install chromium")]


@pytest.fixture(scope="module")
def report(toy_run, tmp_path_factory):
    """Of a run whose attention differs between layers and heads, which takes longer to train than a test may."""
    run = Path(shutil.copytree(toy_run, tmp_path_factory.mktemp("sharp") / "toy"))
    state = {name: 30 * value if "lin_score" in name else value for name, value in weights(run).items()}
    write_state_dict(run / "model.pt", state)
    folder = run.parent / "studies" / "toy"
    study(Plan([run], folder / "attribution", 30, "iagraph study attribution toy"))
    return folder / "report.html"


@contextmanager
def opened(report, **context):
    """The page in a browser, and what its console says."""
    with browsers.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**context)
        said = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
        page.goto(report.as_uri())
        yield page, said
        browser.close()


def test_layer_head_threshold_and_particles_of_a_display(report):
    with opened(report) as (page, said):
        assert page.locator(".displays figure").count() == 4
        display = page.locator(".displays figure").first
        lines, about = display.locator("line"), display.locator("[data-out=about]")
        assert display.locator("[data-choice=layer]").input_value() == "1"  # the last of two
        seen = []
        display.locator("[data-choice=threshold]").fill("0")
        for layer in (1, 0):
            display.locator("[data-choice=layer]").select_option(index=layer)
            for head in (0, 1):
                display.locator("[data-choice=head]").select_option(index=head)
                seen.append([line.get_attribute("stroke-width") for line in lines.all()])
                assert f" {len(seen[-1])} edges" in about.inner_text()
        assert all(seen)
        assert len(set(map(tuple, seen))) == 4
        display.locator("[data-choice=threshold]").fill("1")
        assert lines.count() == 0
        display.locator("[data-choice=threshold]").fill("0")
        particles = display.locator("[data-particle]")
        last = particles.count() - 1
        particles.nth(last).hover()
        assert about.inner_text().startswith(f"Particle {last}: pT = ")
        assert 0 < lines.count() < len(seen[-1])
        page.mouse.move(1, 1)
        assert lines.count() == len(seen[-1])
        assert said == []


def test_a_narrow_window_on_a_phone(report):
    with opened(report, viewport={"width": 400, "height": 800}, is_mobile=True, has_touch=True) as (page, said):
        assert page.evaluate("document.documentElement.scrollWidth") == 400  # nothing sticks out
        display = page.locator(".displays figure").first
        display.locator("[data-particle]").last.tap()
        assert display.locator("[data-out=about]").inner_text().startswith("Particle ")
        assert said == []
