"""The command line. Only click is imported here: what a command needs, it imports when it runs."""

from __future__ import annotations

import click

from servesim.cli.calibrate import calibrate
from servesim.cli.check import check
from servesim.cli.compare import compare
from servesim.cli.group import CommandGroup
from servesim.cli.list import list_choices
from servesim.cli.new import new
from servesim.cli.plan import plan
from servesim.cli.report import report
from servesim.cli.run import run
from servesim.cli.schema import schema
from servesim.cli.sweep import sweep
from servesim.cli.validate import validate
from servesim.cli.workload import workload

_EPILOG = """
\b
Examples:
  servesim run chat.yaml
  servesim run chat.yaml --set pools.main.replicas=4 --seed 7 -o results/chat
  servesim run chat.yaml --format json | jq .
  servesim compare a.yaml b.yaml
  servesim check chat.yaml --baseline servesim-baseline.yaml
  servesim validate bench.json --scenario chat.yaml
  servesim sweep chat.yaml --vary pools.main.replicas=1,2,4 --replications 5 -o results/sweep

\b
Exit codes: 0 fine; 1 failed at run time; 2 bad input or usage; 3 SLO missed (--strict);
4 a limit reached, or overload (--strict); 5 an inconclusive check; 130 interrupted.
"""


@click.group(
    cls=CommandGroup, name="servesim", epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="servesim", prog_name="servesim")
def main() -> None:
    """Simulate the serving of AI models: latency, throughput and cost of a scenario before it is deployed."""


main.add_command(run)
main.add_command(report)
main.add_command(compare)
main.add_command(check)
main.add_command(sweep)
main.add_command(list_choices)
main.add_command(schema)
main.add_command(new)
main.add_command(plan)
main.add_command(workload)
main.add_command(calibrate)
main.add_command(validate)
