"""How much is left: policies that know too much, and bounds that no policy can beat."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy.bounds.causal import CausalBound, causal_bound, sampled_futures
    from policy.bounds.horizon import HorizonBracket, hindsight_bracket
    from policy.bounds.one_slot import OneSlotBound, lp_bound, milp_optimum
    from policy.bounds.oracles import clairvoyant_costs, planner_costs, unforeseen_bound
    from policy.bounds.unlimited import unlimited_costs
    from policy.slot.lower_bounds import slot_lower_bound

_HOMES = {
    "CausalBound": "bounds.causal",
    "HorizonBracket": "bounds.horizon",
    "OneSlotBound": "bounds.one_slot",
    "causal_bound": "bounds.causal",
    "clairvoyant_costs": "bounds.oracles",
    "hindsight_bracket": "bounds.horizon",
    "lp_bound": "bounds.one_slot",
    "milp_optimum": "bounds.one_slot",
    "planner_costs": "bounds.oracles",
    "sampled_futures": "bounds.causal",
    "slot_lower_bound": "slot.lower_bounds",
    "unforeseen_bound": "bounds.oracles",
    "unlimited_costs": "bounds.unlimited",
}

__all__ = [
    "CausalBound",
    "HorizonBracket",
    "OneSlotBound",
    "causal_bound",
    "clairvoyant_costs",
    "hindsight_bracket",
    "lp_bound",
    "milp_optimum",
    "planner_costs",
    "sampled_futures",
    "slot_lower_bound",
    "unforeseen_bound",
    "unlimited_costs",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name stands for
    """Import a public name on first use: some need torch, and who only wants the others waits for none."""
    if name in _HOMES:
        return getattr(import_module(f"policy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'policy.bounds' has no attribute {name!r}")
