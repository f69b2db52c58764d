"""Two classifiers averaged, their neurons matched first or not: score, and what the child adds to a store.

After Singh and Jaggi (NeurIPS 2020), see `demo.zoo.fusion`. A draw renames the second parent's neurons, which
changes nothing that it computes: an average should not depend on names.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.experiments.papers.models.zoo import Scored, zoo_models, zoo_scored
from demo.zoo.fusion import aligned, fused, shuffled
from pbstore import open_store

PLAIN, MATCHED = "plain average", "neurons matched first"
PAIRS = {
    "one lineage": ("zoo/minilm-bbc", "zoo/minilm-bbc-v2"),
    "trained apart": ("zoo/minilm-bbc-apart-a", "zoo/minilm-bbc-apart-b"),
}
"""Parents: a classifier and its update; two whose upper layers began from different random numbers."""
WEIGHTS = "model.safetensors"
State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A classifier of the zoo."""

    folder: Path
    state: State
    heads: int
    """Of each attention."""


def score_fused(pair: str, share: float, seed: int) -> dict[str, dict[str, float]]:
    """Two parents averaged in both ways.

    Args:
        pair: Key of `PAIRS`.
        share: Weight of the second parent, 0 to 1.
        seed: Of the names of the second parent's neurons.

    Returns:
        By way `score`, held out. Where both count alike also `added_mb` by the child to a store that has base
        and parents, and `renamed_mb` by it and, before it, the second parent as it was averaged. MB.
    """
    first, second = (_parent(name) for name in PAIRS[pair])
    other = shuffled(second.state, second.heads, np.random.default_rng(seed))
    values = {}
    for way in (PLAIN, MATCHED):
        like = other if way == PLAIN else aligned(first.state, other, first.heads)
        child = fused(first.state, like, share)
        values[way] = {"score": _score(child)}
        if share == 0.5:
            added, both = (_added_mb(first, other, more) for more in ([child], [like, child]))
            values[way] |= {"added_mb": added, "renamed_mb": both}
    return values


@cache
def _parent(name: str) -> Parent:
    folder = zoo_models("fusion")[name].folder
    heads = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_attention_heads"]
    return Parent(folder=folder, state=load_file(folder / WEIGHTS), heads=heads)


@cache
def _scored() -> tuple[Scored, dict[str, float]]:
    """A net to put weights in, and scores of those that were in it, by their digest."""
    return zoo_scored("zoo/minilm-bbc", "fusion"), {}


def _score(state: State) -> float:
    scored, done = _scored()
    hasher = hashlib.sha256()
    for name in sorted(state):
        hasher.update(state[name].contiguous().numpy().tobytes())
    key = hasher.hexdigest()
    if key not in done:
        scored.net.load_state_dict(dict(state))
        done[key] = scored.score()
    return done[key]


def _added_mb(first: Parent, other: State, more: Sequence[State]) -> float:
    """MB that a store with the base, the first parent and another one grows by."""
    base = zoo_models("fusion")["sentence-transformers/all-MiniLM-L6-v2"].folder
    with tempfile.TemporaryDirectory() as scratch, open_store(Path(scratch) / "store") as store:
        for number, folder in enumerate((base, first.folder)):
            store.add(folder, name=f"there/{number}")
        store.add(_written(first, other, Path(scratch) / "other"), name="there/other")
        before = store.used_bytes
        for number, state in enumerate(more):
            store.add(_written(first, state, Path(scratch) / str(number)), name=f"new/{number}")
        return (store.used_bytes - before) / 1e6


def _written(parent: Parent, state: State, out: Path) -> Path:
    """A folder like the parent's with other weights."""
    shutil.copytree(parent.folder, out, ignore=shutil.ignore_patterns(WEIGHTS))
    save_file({name: value.contiguous() for name, value in state.items()}, out / WEIGHTS, {"format": "pt"})
    return out
