"""The field's claims about batching, made measurable: `python -m tests.claims --write` regenerates docs/claims.md.

A claim (claim.py, claims.yaml) asks for findings; a finding (finding.py) is a figure with its interval and what is
asked of it; the laboratory (lab.py) runs the points of a scenario in scenarios/claims under common random numbers.
"""
