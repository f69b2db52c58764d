"""MAASN-DA, our reading (the paper's equations were not available); see policy/learn/marl/maasn_da.py."""

from functools import partial

from policy.learn.marl.actor_scheme import start_actor
from policy.play.scheme import SchemeEntry

ENTRY = SchemeEntry(
    name="maasn-da",
    start=partial(start_actor, "maasn-da"),
    paper="Fu, Qin et al., arXiv 2509.19341: our reading; the paper's equations were not available",
)
