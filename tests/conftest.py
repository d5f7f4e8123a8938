"""Shared test set-up."""

from __future__ import annotations

import os

from hypothesis import Phase, settings

# In CI the same examples every time; elsewhere new ones, so that they are found.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
# A mutant must only fail, not fail beautifully: no shrinking.
settings.register_profile("mutants", derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
settings.register_profile("dev", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
