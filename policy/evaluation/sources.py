"""Which code and weights a scheme's result depends on; their hash is part of the result's name."""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import policy
from policy.evaluation.closure import closure_of, find_module, function_digest
from policy.evaluation.oracles import BOUNDS
from policy.learn.checkpoint import own_weights
from policy.play.own_files import file_of
from policy.play.scheme import SchemeEntry
from policy.schemes import HOMES, find_scheme, parts_of
from policy.schemes.own import offered

ROOT = Path(policy.__file__).parent
PLAY = ("policy.play.rollout", "policy.scenario", "policy.evaluation.episodes")
"""What every episode goes through."""
ANY = ("policy.schemes.unshared", "policy.schemes.settings")
"""What settings and ablations go through."""
APART = frozenset({"policy.schemes", "policy.evaluation.oracles"})
"""Modules that name all others: followed only where asked for."""
READER = "policy.learn.checkpoint"
"""What reads weights: no code that does not reach it plays any."""


def code_version(scheme: str | SchemeEntry) -> str | None:
    """SHA-256 over all code that a scheme or bound runs through, and over weights if it reads any.

    None for an entry that is given as an object and whose code nothing can name, see `function_digest`.
    """
    if isinstance(scheme, SchemeEntry):
        start = function_digest(scheme.start)
        if start is None:
            return None
        return _version(
            (_module_of(scheme.start),), f"{scheme.rules} {scheme.random} {start}", _own_weights()
        )
    if scheme in BOUNDS:
        return _version(("policy.evaluation.oracles",), "", ())
    base = parts_of(scheme)[0]
    return _version((*_modules(base), *ANY), repr(find_scheme(scheme).rules), _own_weights())


def _module_of(function: Callable[..., Any]) -> str:
    """Where a function, or what a partial is one of, is written."""
    while isinstance(function, partial):
        function = function.func
    return function.__module__


def _modules(base: str) -> tuple[str | Path, ...]:
    """Where the entry of a scheme is."""
    own = file_of(base)
    if own is not None:
        return (own[0].resolve(),)
    if base in HOMES:
        return (f"policy.schemes.{HOMES[base].partition(':')[0]}",)
    return (offered()[base].partition(":")[0],)


def _own_weights() -> tuple[str, ...]:
    return tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in own_weights())


@cache
def _version(modules: tuple[str | Path, ...], rules: str, own: tuple[str, ...]) -> str:
    closure = closure_of((*PLAY, *modules), APART)
    hasher = hashlib.sha256(f"{rules}\n{closure.digest}".encode())
    if find_module(READER) in closure.files:
        hasher.update("\n".join(own).encode())
        shipped = sorted(path for path in (ROOT / "weights").rglob("*") if path.is_file())
        for path in shipped:
            hasher.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


__all__ = ["APART", "PLAY", "code_version", "function_digest"]
