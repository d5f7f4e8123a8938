"""From what a page shows to HTML: everything inline, nothing fetched, every name escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from servesim.report.page.charts import Chart

# How a page that servesim wrote is told from other files.
MARKER = '<meta name="generator" content="servesim report">'
_SCRIPTS = ("uplot.min.js", "report.js")
_UNIT = re.compile(r"(\d) (%|ms|s)(?!\w)")
_STYLES = ("uplot.min.css", "report.css")


def render(template: str, charts: list[Chart], **shown: Any) -> str:
    """Return the page that `template` makes of `shown`; `charts` are drawn wherever it places their keys."""
    environment = Environment(
        loader=PackageLoader("servesim.report.page", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    scripts = [_asset(name) for name in _SCRIPTS]
    return environment.get_template(template).render(
        marker=Markup(MARKER),
        scripts=[Markup(text) for text in scripts],
        policy=_policy(scripts),
        styles=[Markup(_asset(name)) for name in _STYLES],
        chart_data={chart.key: chart.plain() for chart in charts},
        **shown,
    )


def prose(text: str) -> Markup:
    """Return a sentence as HTML: backticks make code, "->" an arrow, and figures stay with their units."""
    pieces = _UNIT.sub("\\1\u00a0\\2", text).replace(" -> ", " \u2192 ").split("`")
    if len(pieces) % 2 == 0:  # an odd backtick, such as one in a name, is itself
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else escape(piece) for place, piece in enumerate(pieces)
    )


def _asset(name: str) -> str:
    return (files("servesim.report.page") / "assets" / name).read_text(encoding="utf-8").strip()


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: nothing from anywhere, and no script but these, whatever a name contains."""
    hashes = (base64.b64encode(hashlib.sha256(f"\n{text}\n".encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
