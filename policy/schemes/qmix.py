"""QMIX; see policy/learn/marl/qmix.py."""

from functools import partial

from policy.learn.marl.actor_scheme import start_actor
from policy.play.scheme import SchemeEntry

ENTRY = SchemeEntry(
    name="qmix",
    start=partial(start_actor, "qmix"),
    paper="Rashid et al., ICML 2018, arXiv 1803.11485; a node's value adds over its blocks",
)
