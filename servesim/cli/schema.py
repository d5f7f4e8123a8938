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
@click.option("--inventory", "of_inventories", is_flag=True, help="Of inventories to divide (`plan`) instead.")
@debug_option
@click.pass_context
def schema(ctx: click.Context, output: Path | None, of_sweeps: bool, of_plans: bool, of_inventories: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of scenarios, with which editors complete and check them."""
    from servesim.scenario import json_schema

    if of_sweeps + of_plans + of_inventories > 1:
        raise click.UsageError("give only one of --sweep, --plan and --inventory", ctx)
    found = (
        json_schema.sweep_schema()
        if of_sweeps
        else json_schema.plan_schema()
        if of_plans
        else json_schema.inventory_schema()
        if of_inventories
        else json_schema.scenario_schema()
    )
    text = json.dumps(found, indent=2, allow_nan=False)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text + "\n", encoding="utf-8")
