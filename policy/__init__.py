"""Placement and migration of parameter blocks: the problem, its baselines, its bounds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policy.config import ScenarioConfig
    from policy.evaluation import evaluate
    from policy.interfaces import BlockCatalog, DelayModel
    from policy.play.env import make_env
    from policy.scenario import Scenario, World, load_scenario
    from policy.schemes import find_scheme
    from policy.slot.tables import ServiceRules
    from policy.world.trace import Trace

_HOMES = {
    "BlockCatalog": "interfaces",
    "DelayModel": "interfaces",
    "Scenario": "scenario",
    "ScenarioConfig": "config",
    "ServiceRules": "slot.tables",
    "Trace": "world.trace",
    "World": "scenario",
    "evaluate": "evaluation",
    "find_scheme": "schemes",
    "load_scenario": "scenario",
    "make_env": "play.env",
}

__all__ = [
    "BlockCatalog",
    "DelayModel",
    "Scenario",
    "ScenarioConfig",
    "ServiceRules",
    "Trace",
    "World",
    "evaluate",
    "find_scheme",
    "load_scenario",
    "make_env",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the public name stands for
    """Import a public name on first use, so that importing `policy` is cheap."""
    if name in _HOMES:
        return getattr(import_module(f"policy.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'policy' has no attribute {name!r}")
