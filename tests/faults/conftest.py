"""``--faults N``: at most so many faults of a kind and scenario; 0 for all of them."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--faults", type=int, default=None, help="faults of a kind and scenario, 0: all; default: a few")


@pytest.fixture
def most(request):
    """How many faults of a kind are tried, given how many are quick enough for every run of the tests."""
    asked = request.config.getoption("--faults")
    return lambda usual: usual if asked is None else (asked or None)
