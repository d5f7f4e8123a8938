"""All cases of the book, those that take long first, so that two processes end together."""

from __future__ import annotations

from tests.theory import (
    cases_arrivals,
    cases_batches,
    cases_disciplines,
    cases_leaving,
    cases_stations,
    cases_systems,
)
from tests.theory.book import Case
from tests.theory.cases_searches import FIRST_25, SEARCHES, Search

CASES: tuple[Case | Search, ...] = (
    *cases_arrivals.CASES,
    *cases_leaving.CASES,
    *cases_stations.CASES,
    *cases_batches.CASES,
    *cases_systems.CASES,
    *SEARCHES,
    *cases_disciplines.CASES,
    FIRST_25,
)
