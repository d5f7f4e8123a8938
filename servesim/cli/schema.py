"""`servesim schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from servesim.cli.group import debug_option

_EPILOG = """
\b
Examples:
  servesim schema -o servesim.schema.json
  first line of a scenario, for editors:
    # yaml-language-server: $schema=servesim.schema.json
"""


@click.command("schema", epilog=_EPILOG)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, replacing it.")
@click.option("--sweep", "of_sweeps", is_flag=True, help="Of sweep documents instead.")
@debug_option
def schema(output: Path | None, of_sweeps: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of scenarios, with which editors complete and check them."""
    from servesim.scenario.json_schema import scenario_schema, sweep_schema

    text = json.dumps(sweep_schema() if of_sweeps else scenario_schema(), indent=2, allow_nan=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
