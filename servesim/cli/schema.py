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
  servesim schema --plan -o servesim-plan.schema.json
  first line of a scenario, for editors:
    # yaml-language-server: $schema=servesim.schema.json
"""


@click.command("schema", epilog=_EPILOG)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, replacing it.")
@click.option("--sweep", "of_sweeps", is_flag=True, help="Of sweep documents instead.")
@click.option("--plan", "of_plans", is_flag=True, help="Of plan documents instead.")
@debug_option
@click.pass_context
def schema(ctx: click.Context, output: Path | None, of_sweeps: bool, of_plans: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of scenarios, with which editors complete and check them."""
    from servesim.scenario.json_schema import plan_schema, scenario_schema, sweep_schema

    if of_sweeps and of_plans:
        raise click.UsageError("give either --sweep or --plan", ctx)
    found = sweep_schema() if of_sweeps else plan_schema() if of_plans else scenario_schema()
    text = json.dumps(found, indent=2, allow_nan=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
