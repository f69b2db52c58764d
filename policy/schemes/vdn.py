"""VDN; see policy/learn/marl/vdn.py."""

from functools import partial

from policy.learn.marl.actor_scheme import start_actor
from policy.play.scheme import SchemeEntry

ENTRY = SchemeEntry(
    name="vdn",
    start=partial(start_actor, "vdn"),
    paper="Sunehag et al., AAMAS 2018, arXiv 1706.05296; a node's value adds over its blocks",
)
