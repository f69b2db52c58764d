"""Registry of schemes: one file each, each with its paper and how ours differs from it."""

from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from importlib import import_module

from policy.errors import SchemeError
from policy.play.own_files import file_of
from policy.play.scheme import History, Observation, Placement, Scheme, SchemeEntry
from policy.schemes.own import offered, offered_entry, own_entry
from policy.schemes.settings import read_settings
from policy.schemes.unshared import without_sharing

HOMES: dict[str, str] = {
    # name on the command line: module in this folder, then the entry in it; imported on first use
    "no-cache": "no_cache:ENTRY",
    "random": "random_blocks:ENTRY",
    "static-distinct": "static_distinct:ENTRY",
    "know-nothing": "know_nothing:ENTRY",
    "lru": "lru:ENTRY",
    "lfu": "lfu:ENTRY",
    "whole-model": "whole_model:ENTRY",
    "whole-model-greedy": "whole_model:GREEDY_ENTRY",
    "whole-model-shared-air": "whole_model:SHARED_ENTRY",
    "popularity": "popularity:ENTRY",
    "trimcaching-gen": "trimcaching_schemes:GEN_ENTRY",
    "trimcaching-spec": "trimcaching_schemes:SPEC_ENTRY",
    "trimcaching-gen-delay": "trimcaching_schemes:DELAY_ENTRY",
    "m-pso": "m_pso:ENTRY",
    "m-pso-clock": "m_pso_clock:ENTRY",
    "mba": "mba:ENTRY",
    "rendezvous": "rendezvous:ENTRY",
    "ewma-greedy": "ewma_greedy:ENTRY",
    "ewma-local": "ewma_local:ENTRY",
    "pooled": "pooled:ENTRY",
    "price": "prices:ENTRY",
    "planner": "planner:ENTRY",
    "planner-fair": "planner_fair:ENTRY",
    "planner-clock": "planner_clock:ENTRY",
    "mappo": "mappo:ENTRY",
    "maddpg": "maddpg:ENTRY",
    "qmix": "qmix:ENTRY",
    "vdn": "vdn:ENTRY",
    "maasn-da": "maasn_da:ENTRY",
    "learned": "learned:ENTRY",
}

ABLATIONS = {
    "no-comp": "comp",
    "no-migration": "migration",
    "no-air-sharing": "share_air",
    "no-groups": "groups",
}
"""Suffix after `+` in a scheme's name, and the rule it switches off."""

WHOLE_MODELS = "whole-models"
"""Suffix: the scheme sees each model as one block of its own; nothing is shared, in stores or on the air."""

NO_STORE_SHARING = "no-store-sharing"
"""Suffix: a node caches a block once for each model that uses it; the air stays shared."""


def scheme_names() -> tuple[str, ...]:
    """All schemes, in the order of the ladder."""
    return tuple(HOMES)


def find_scheme(name: str) -> SchemeEntry:
    """Look a scheme up by a name such as `lru`, `lru+no-comp+no-migration` or `ewma-greedy:weight=0.2`.

    Args:
        name: Scheme of the registry, of an installed package, or in a file (`./my_scheme.py:ENTRY`, see
            `policy.schemes.own`); then, after a colon, settings that differ from the tuned ones, split by
            semicolons; then, each after a plus, ablations.

    Raises:
        SchemeError: If there is no such scheme, setting or ablation, or a setting is out of range.
    """
    base, settings, switches = parts_of(name)
    entry = _entry(base)
    if settings is not None:
        entry = replace(entry, start=partial(entry.start, **read_settings(settings, entry)))
    for switch in switches:
        entry = _switch_off(entry, switch)
    return replace(entry, name=name)


def parts_of(name: str) -> tuple[str, str | None, list[str]]:
    """Scheme, settings (None without a colon) and ablations in a name."""
    own = file_of(name)
    base, rest = (f"{own[0]}:{own[1]}", own[2]) if own is not None else ("", name)
    head, *switches = rest.split("+")
    first, colon, settings = head.partition(":")
    return base or first, settings if colon else None, switches


def _entry(base: str) -> SchemeEntry:
    own = file_of(base)
    if own is not None:
        return own_entry(own[0], own[1])
    if base in HOMES:
        module, _, attribute = HOMES[base].partition(":")
        entry: SchemeEntry = getattr(import_module(f"policy.schemes.{module}"), attribute)
        return entry
    others = offered()
    if base in others:
        return offered_entry(base)
    near = get_close_matches(base, [*HOMES, *others], 1)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    raise SchemeError(f"no scheme {base!r}{hint} there are {', '.join(sorted([*HOMES, *others]))}")


def _switch_off(entry: SchemeEntry, switch: str) -> SchemeEntry:
    if switch == NO_STORE_SHARING:
        return without_sharing(entry)
    if switch == WHOLE_MODELS:
        return replace(entry, rules=replace(entry.rules, whole_models=True))
    if switch not in ABLATIONS:
        known = sorted([*ABLATIONS, NO_STORE_SHARING, WHOLE_MODELS])
        raise SchemeError(f"no ablation {switch!r}; there are {', '.join(known)}")
    return replace(entry, rules=replace(entry.rules, **{ABLATIONS[switch]: False}))


__all__ = [
    "ABLATIONS",
    "HOMES",
    "History",
    "Observation",
    "Placement",
    "Scheme",
    "SchemeEntry",
    "find_scheme",
    "scheme_names",
]
