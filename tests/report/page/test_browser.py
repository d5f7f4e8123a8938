"""The page in a real browser, from a file, network off: it draws, answers the pointer, fits a phone, prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from servesim.report.page import NAME, page, write_page
from tests.report.page.test_page import HOSTILE, RESULTS, hostile

PHONE, DESK = {"width": 375, "height": 700}, {"width": 1280, "height": 900}
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Whether a canvas has been drawn on: more than one colour.
_INKED = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size > 2;
}"""


@contextmanager
def opened(browser: Any, path: Path, viewport: dict[str, int], scheme: str = "light") -> Iterator[Any]:
    """Open a page offline; afterwards fail on anything it said on the console, threw, or asked for."""
    context = browser.new_context(viewport=viewport, offline=True, color_scheme=scheme)
    view, said = context.new_page(), []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: None if request.url == path.as_uri() else said.append(request.url))
    view.goto(path.as_uri())
    view.wait_for_function("() => [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('canvas'))")
    yield view
    assert [text for text in said if not text.startswith("data:")] == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", RESULTS)
def test_it_draws_without_errors_and_fits_a_phone(
    browser: Any, written: Callable[[str], Path], name: str, scheme: str
) -> None:
    path = written(name)
    for viewport in (PHONE, DESK):
        with opened(browser, path, viewport, scheme) as view:
            for details in view.locator("details").all():
                details.evaluate("one => { one.open = true; }")
            assert view.evaluate(_OVERFLOW) == 0
            canvases = view.locator(".plot canvas")
            assert canvases.count() == view.locator("figure[data-chart]").count()
            assert all(canvas.evaluate(_INKED) for canvas in canvases.all())
            assert view.locator("#answer .verdict").is_visible()


def test_the_answer_is_on_the_first_screen(browser: Any, written: Callable[[str], Path]) -> None:
    path = written("steady")
    for viewport in (PHONE, DESK):
        with opened(browser, path, viewport) as view:
            for part in (".verdict", ".tiles"):
                box = view.locator(f"#answer {part}").bounding_box()
                assert box["y"] + box["height"] <= viewport["height"]


def test_hovering_shows_figures(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("two_pools"), DESK) as view:
        figure = view.locator("figure[data-chart=distribution-ttft_s]")
        value = figure.locator(".u-legend .u-value").first
        assert value.inner_text() == "-"
        figure.locator(".u-over").hover()
        view.wait_for_function("value => value.textContent !== '-'", arg=value.element_handle())
        assert value.inner_text().endswith(("ms", "s"))
        segment = view.locator(".segment").first
        segment.hover()
        assert view.locator("#tip").inner_text() == segment.get_attribute("data-tip")


def test_dragging_zooms_and_a_button_goes_back(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("two_pools"), DESK) as view:
        figure = view.locator("figure[data-chart=timeline-waiting]")
        reset, over = figure.locator("[data-reset]"), figure.locator(".u-over")
        over.scroll_into_view_if_needed()
        assert reset.is_disabled()
        box = over.bounding_box()
        view.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 40)
        view.mouse.down()
        view.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40, steps=5)
        view.mouse.up()
        view.wait_for_function("button => !button.disabled", arg=reset.element_handle())
        reset.click()
        view.wait_for_function("button => button.disabled", arg=reset.element_handle())


def test_lines_scales_and_parts_can_be_switched(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("two_pools"), DESK) as view:
        figure = view.locator("figure[data-chart=distribution-e2e_s]")
        before = figure.locator("canvas").evaluate("canvas => canvas.toDataURL()")
        figure.locator(".u-series").nth(1).locator("th").click()
        assert "u-off" in figure.locator(".u-series").nth(1).get_attribute("class")
        button = figure.locator("[data-scale=y]")
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        assert "u-off" in figure.locator(".u-series").nth(1).get_attribute("class")
        view.wait_for_function(
            "([canvas, before]) => canvas.toDataURL() !== before",
            arg=[figure.locator("canvas").element_handle(), before],
        )
        bars = view.locator(".bars").first
        chosen = bars.locator(".legend button").first
        chosen.click()
        faded, parts = bars.locator(".segment.faded").count(), bars.locator(".segment").count()
        assert 0 < faded < parts
        chosen.click()
        assert bars.locator(".segment.faded").count() == 0


def test_printing_is_light_narrow_and_unfolded(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("steady"), DESK, "dark") as view:
        shut = "[...document.querySelectorAll('details')].filter(one => !one.open).length"
        assert view.evaluate(shut) > 0
        view.emulate_media(media="print", color_scheme="dark")
        view.wait_for_function(f"() => {shut} === 0")
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not view.locator("nav").is_visible()
        assert len(view.pdf(format="A4")) > 10_000
        view.emulate_media(media="screen")
        view.wait_for_function(f"() => {shut} > 0")


def test_hostile_names_are_shown_and_not_run(browser: Any, copied: Callable[[str], Path], tmp_path: Path) -> None:
    write_page(tmp_path / NAME, page(hostile(copied("steady"))))
    with opened(browser, tmp_path / NAME, PHONE) as view:
        assert view.evaluate("window.hit") is None
        assert view.locator("h1").inner_text() == HOSTILE
        assert view.evaluate(_OVERFLOW) == 0
        figure = view.locator("figure[data-chart=distribution-ttft_s]")
        assert figure.locator(".u-series").nth(1).locator(".u-label").inner_text() == HOSTILE
