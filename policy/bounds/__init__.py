"""How much is left: policies that know too much, and bounds that no policy can beat."""

from policy.bounds.causal import CausalBound, causal_bound, sampled_futures
from policy.bounds.horizon import HorizonBracket, hindsight_bracket
from policy.bounds.one_slot import OneSlotBound, lp_bound, milp_optimum
from policy.bounds.oracles import clairvoyant_costs, planner_costs, unforeseen_bound
from policy.bounds.unlimited import unlimited_costs
from policy.slot.lower_bounds import slot_lower_bound

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
