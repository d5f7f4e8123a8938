"""`servesim report`."""

from __future__ import annotations

from pathlib import Path

import click

from servesim.cli.group import debug_option

_EPILOG = """
\b
Examples:
  servesim run chat.yaml --why -o results/chat && servesim report results/chat
  servesim report results/chat -o chat.html
  servesim sweep chat.yaml --vary workload.classes.chat.arrivals.request_rate_rps=1:10:1 -o load && servesim report load
"""


@click.command("report", epilog=_EPILOG)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE instead of DIR/report.html."
)
@click.option("--force", is_flag=True, help="Let -o replace a file that is not a servesim report.")
@click.option("--quiet", is_flag=True, help="Do not say where the page is.")
@debug_option
def report(directory: Path, output: Path | None, force: bool, quiet: bool) -> None:
    """Write one self-contained HTML page about the result in DIR, written by -o of run, sweep, compare, check or plan.

    It opens without a network, on a phone too, and prints. The same result gives the same bytes.
    """
    from servesim.report.page import NAME, page, write_page

    text = page(directory)
    path = directory / NAME if output is None else output
    write_page(path, text, force=force)
    if not quiet:
        click.echo(f"wrote {path}", err=True)
