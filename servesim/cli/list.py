"""`servesim list`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

from servesim.cli.group import debug_option

_CATALOG = ("gpus", "models", "calibrations", "batch-calibrations", "examples")
_EPILOG = """
\b
Examples:
  servesim list
  servesim list routers
  servesim list calibrations --gpu h100 --model llama-3.1-8b
  servesim list gpus --format json
"""


@click.command("list", epilog=_EPILOG)
@click.argument("topic", required=False)
@click.option("--gpu", metavar="NAME", help="Only calibrations on this GPU.")
@click.option("--model", metavar="NAME", help="Only calibrations of this model.")
@click.option("--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True)
@debug_option
def list_choices(topic: str | None, gpu: str | None, model: str | None, style: str) -> None:
    """List what a scenario can choose from: the kinds of each family with their keys, GPUs, models, calibrations."""
    from servesim.cli.list_kinds import kind_topics

    known = (*kind_topics(), *_CATALOG)
    if topic is not None:
        topic = _known(topic, known)
    if (gpu or model) and topic not in ("calibrations", "batch-calibrations"):
        raise click.UsageError("--gpu and --model select calibrations: servesim list calibrations --gpu NAME")
    rows, text = _listing(topic, gpu, model, style)
    if style == "json":
        click.echo(json.dumps(rows, indent=2, allow_nan=False))
    else:
        click.echo("\n".join(text(rows)).rstrip())


def _known(topic: str, known: tuple[str, ...]) -> str:
    """Return the topic; `router` and `service_time` mean `routers` and `service-times`."""
    from servesim.scenario.load_allowed import suggestion

    name = topic.lower().replace("_", "-")
    for candidate in (name, name + "s"):
        if candidate in known:
            return candidate
    raise click.UsageError(f"nothing called {topic!r} to list{suggestion(topic, known)}; known: {', '.join(known)}")


def _listing(
    topic: str | None, gpu: str | None, model: str | None, style: str
) -> tuple[Any, Callable[[Any], list[str]]]:
    """Return the rows and what makes text of them."""
    from servesim.cli import list_catalog, list_kinds, list_text

    if topic is None:
        return {name: list_kinds.kind_rows(family) for name, family in list_kinds.kind_topics().items()}, _overview
    if topic == "gpus":
        return list_catalog.gpu_rows(), list_text.gpus_text
    if topic == "models":
        return list_catalog.model_rows(), list_text.models_text
    if topic == "examples":
        return list_catalog.example_rows(), _examples
    if topic == "calibrations":
        keys = list_catalog.calibration_keys(model, gpu)
        if style == "table" and ((gpu is None and model is None) or not keys):
            return keys, list_text.counts_text if keys else _no_calibrations
        return list_catalog.calibration_rows(keys), list_text.matrix_text
    if topic == "batch-calibrations":
        return list_catalog.batch_calibration_rows(model, gpu), list_text.batch_calibrations_text
    return list_kinds.kind_rows(list_kinds.kind_topics()[topic]), list_text.kinds_text


def _overview(topics: Any) -> list[str]:
    from servesim.cli.list_text import overview

    more = f"servesim list TOPIC shows the keys; more topics: {', '.join(_CATALOG)}"
    return [*overview(topics), more]


def _examples(rows: Any) -> list[str]:
    from servesim.cli.list_text import columns

    return [*columns([(row["name"], row["description"]) for row in rows]), "", "servesim new --example NAME -o FILE"]


def _no_calibrations(_: Any) -> list[str]:
    return ["No calibration for this choice; service_time: {kind: roofline} estimates instead."]
