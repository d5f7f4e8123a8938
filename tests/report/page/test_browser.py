"""The page in a real browser, from a file, network off: it draws, answers the pointer, fits a phone, prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from servesim.report.page import NAME, page, write_page
from tests.report.page.conftest import DECISIONS
from tests.report.page.test_decisions import hostile_decision
from tests.report.page.test_page import HOSTILE, RESULTS, hostile

PHONE, DESK = {"width": 375, "height": 700}, {"width": 1280, "height": 900}
_OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Whether a canvas has been drawn on: more than one colour.
_INKED = """canvas => {
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return new Set(new Uint32Array(data.buffer)).size > 2;
}"""

_FITTED = """() => [...document.querySelectorAll(".plot")].every(
  plot => Math.abs(plot.querySelector(".uplot").clientWidth - plot.clientWidth) < 2)"""


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
@pytest.mark.parametrize("name", [*RESULTS, *DECISIONS])
def test_it_draws_without_errors_and_fits_a_phone(
    browser: Any, written: Callable[[str], Path], name: str, scheme: str
) -> None:
    path = written(name)
    for viewport in (PHONE, DESK):
        with opened(browser, path, viewport, scheme) as view:
            for details in view.locator("details").all():
                details.evaluate("one => { one.open = true; }")
            assert view.evaluate(_OVERFLOW) == 0
            for group in view.locator("[data-group]").all():
                group.evaluate("one => { one.hidden = false; }")
            view.wait_for_function(_FITTED)
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


def test_points_of_the_frontier_say_what_they_are(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("grid"), DESK) as view:
        figure = view.locator("figure[data-chart=frontier]")
        over = figure.locator(".u-over")
        over.scroll_into_view_if_needed()
        assert view.locator("#tip").is_hidden()
        box = over.bounding_box()
        for part in range(1, 100):  # along the middle: some point is near it
            view.mouse.move(box["x"] + box["width"] * part / 100, box["y"] + box["height"] / 2)
            if view.locator("#tip").is_visible():
                break
        assert "tokens/s per GPU" in view.locator("#tip").inner_text()
        assert "replicas" in view.locator("#tip").inner_text()
        view.mouse.move(5, 5)
        view.wait_for_function("() => document.getElementById('tip').hidden")


def test_percentiles_are_switched_and_lines_hidden_with_their_bands(
    browser: Any, written: Callable[[str], Path]
) -> None:
    with opened(browser, written("grid"), DESK) as view:
        p50, p99 = (view.locator(f"figure[data-chart=curve-ttft_s-{name}]") for name in ("p50", "p99"))
        assert p99.is_visible()
        assert not p50.is_visible()
        view.locator("[data-view]").first.click()
        assert p50.is_visible()
        assert not p99.is_visible()
        view.wait_for_function(_FITTED.replace(".every(", ".filter(plot => plot.clientWidth).every("))
        canvas = p50.locator("canvas")
        before = canvas.evaluate("canvas => canvas.toDataURL()")
        p50.locator(".u-series").nth(1).locator("th").click()
        view.wait_for_function(
            "([canvas, before]) => canvas.toDataURL() !== before", arg=[canvas.element_handle(), before]
        )


def test_intervals_are_shown_with_their_values(browser: Any, written: Callable[[str], Path]) -> None:
    with opened(browser, written("line"), DESK) as view:
        figure = view.locator("figure[data-chart=curve-e2e_s]")
        value = figure.locator(".u-legend .u-value").nth(1)
        over = figure.locator(".u-over")
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        view.mouse.move(box["x"] + 2, box["y"] + 40)
        view.wait_for_function("value => value.textContent !== '-'", arg=value.element_handle())
        assert " to " in value.inner_text()


def test_rows_of_intervals_tell_their_figures(browser: Any, written: Callable[[str], Path]) -> None:
    for viewport in (PHONE, DESK):
        with opened(browser, written("comparison"), viewport) as view:
            track = view.locator(".forest .track[data-tip]").first
            track.scroll_into_view_if_needed()
            track.hover()
            assert view.locator("#tip").inner_text() == track.get_attribute("data-tip")
            box, dot = track.bounding_box(), track.locator(".dot").bounding_box()
            assert box["x"] - 6 <= dot["x"] <= box["x"] + box["width"] + 6


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_print_light_and_unfolded(browser: Any, written: Callable[[str], Path], name: str) -> None:
    with opened(browser, written(name), DESK, "dark") as view:
        view.emulate_media(media="print", color_scheme="dark")
        view.wait_for_function("() => [...document.querySelectorAll('details')].every(one => one.open)")
        assert view.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not view.locator("nav").is_visible()
        assert len(view.pdf(format="A4")) > 10_000


@pytest.mark.parametrize("name", DECISIONS)
def test_hostile_decisions_are_shown_and_not_run(browser: Any, copied: Callable[[str], Path], name: str) -> None:
    directory = hostile_decision(copied(name))
    write_page(directory / NAME, page(directory))
    with opened(browser, directory / NAME, PHONE) as view:
        assert view.evaluate("window.hit") is None
        assert view.evaluate(_OVERFLOW) == 0
