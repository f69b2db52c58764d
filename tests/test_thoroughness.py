"""Laws of chance are short in a plain run, and long and chosen in one of slow tests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.thoroughness import TIMES, takes_slow


@pytest.mark.parametrize(
    ("markers", "slow"),
    [
        ("", True),
        ("slow", True),
        ("slow and not network", True),
        ("slow or network", True),
        ("slow or not slow", True),
        ("not slow", False),
        ("not slow and not network", False),
        ("network", False),
    ],
)
def test_a_run_of_slow_tests_is_known_by_its_markers(markers: str, *, slow: bool) -> None:
    assert takes_slow(markers) == slow


def test_a_law_that_names_no_number_is_short_or_long(request: pytest.FixtureRequest) -> None:
    tried = []

    @settings(database=None)
    @given(st.integers())
    def law(number: int) -> None:
        tried.append(number)

    law()
    assert len(tried) == (100 * TIMES if takes_slow(request.config.option.markexpr) else 25)
