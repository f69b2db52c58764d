"""MAPPO; see policy/learn/marl/mappo.py."""

from functools import partial

from policy.learn.marl.actor_scheme import start_actor
from policy.play.scheme import SchemeEntry

ENTRY = SchemeEntry(
    name="mappo",
    start=partial(start_actor, "mappo"),
    paper="Yu et al., NeurIPS 2022, arXiv 2103.01955; an action is the order of a cache fill",
)
