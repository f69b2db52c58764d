"""Which code and weights a scheme's result depends on; their hash is part of the result's name."""

import hashlib
from functools import cache
from pathlib import Path

import policy
from policy.evaluation.closure import closure_of, function_digest
from policy.evaluation.oracles import BOUNDS
from policy.learn.checkpoint import own_weights
from policy.schemes import HOMES, find_scheme

ROOT = Path(policy.__file__).parent
PLAY = ("policy.rollout", "policy.scenario", "policy.evaluation.episodes")
"""What every episode goes through."""
APART = frozenset({"policy.schemes", "policy.evaluation.oracles"})
"""Modules that name all others: followed only where asked for."""


def code_version(name: str) -> str:
    """SHA-256 over all code that a scheme or bound runs through, and over weights if it is learned."""
    if name in BOUNDS:
        return _version(("policy.evaluation.oracles",), "", ())
    module = HOMES[name.split("+")[0].split(":")[0]].partition(":")[0]
    own = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in own_weights())
    modules = (f"policy.schemes.{module}", "policy.schemes.unshared", "policy.schemes.settings")
    return _version(modules, repr(find_scheme(name).rules), own)


@cache
def _version(modules: tuple[str, ...], rules: str, own: tuple[str, ...]) -> str:
    closure = closure_of((*PLAY, *modules), APART)
    made = hashlib.sha256(f"{rules}\n{closure.digest}".encode())
    if any(path.is_relative_to(ROOT / "learn") for path in closure.files):
        made.update("\n".join(own).encode())
        shipped = sorted(path for path in (ROOT / "weights").rglob("*") if path.is_file())
        for path in shipped:
            made.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


__all__ = ["APART", "PLAY", "code_version", "function_digest"]
