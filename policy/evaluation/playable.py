"""Which schemes can run on a scenario, and why others cannot."""

from collections.abc import Sequence

import numpy as np

from policy.errors import SchemeError
from policy.play.scheme import SchemeEntry
from policy.scenario import Scenario
from policy.schemes import find_scheme


def check_playable(scenario: Scenario, entry: SchemeEntry) -> None:
    """Start a scheme as an episode would.

    Raises:
        SchemeError: If it cannot run on the scenario.
    """
    seen = scenario.whole_models() if entry.rules.whole_models else scenario
    entry.start(seen, np.random.default_rng(0))


def playable(scenario: Scenario, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Those of some schemes that can run on a scenario, and for each other one the reason why not.

    Raises:
        SchemeError: If there is no scheme of some name.
    """
    reasons: dict[str, str] = {}
    for name in names:
        entry = find_scheme(name)
        try:
            check_playable(scenario, entry)
        except SchemeError as error:
            reasons[name] = str(error)
    return [name for name in names if name not in reasons], reasons
