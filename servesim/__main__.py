"""`python -m servesim`."""

from servesim.cli import main

main()
