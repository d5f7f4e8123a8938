"""Shared test set-up."""

from __future__ import annotations

import os

from hypothesis import settings

# In CI the same examples every time; elsewhere new ones, so that they are found.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
