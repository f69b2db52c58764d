"""MADDPG with Gumbel-Softmax actions; see policy/learn/marl/maddpg.py."""

from functools import partial

from policy.learn.marl.actor_scheme import start_actor
from policy.play.scheme import SchemeEntry

ENTRY = SchemeEntry(
    name="maddpg",
    start=partial(start_actor, "maddpg"),
    paper="Lowe et al., NeurIPS 2017, arXiv 1706.02275; one shared actor, sets of blocks as actions",
)
