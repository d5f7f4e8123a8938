"""Has anything become worse? Scenarios against a committed baseline or another version, for CI: see docs/ci.md."""
