"""All that the policy knows of the world: which model needs which blocks, and how fast a broadcast is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from policy.errors import RateError
from policy.npz import read_npz

Bool: TypeAlias = NDArray[np.bool_]
Float: TypeAlias = NDArray[np.float64]
Int: TypeAlias = NDArray[np.int64]


def _frozen(array: NDArray[np.generic]) -> None:
    array.setflags(write=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockForms:
    """How else blocks can travel than in the form in which they are kept. Arrays are copied and read-only."""

    alone_bytes: Int
    """Bytes of each block in a form that needs no other block, (blocks,), > 0; its kept size where the kept
    form needs none."""
    content: Bool
    """Which model is itself made of which block, (models, blocks); `members` adds what kept forms need."""
    together: Int
    """Label of each block, (blocks,): blocks of one label (byte ranges of one tensor) travel in one form."""

    def __post_init__(self) -> None:
        alone, content = np.array(self.alone_bytes, dtype=np.int64), np.array(self.content, dtype=bool)
        together = np.array(self.together, dtype=np.int64)
        if alone.ndim != 1 or content.shape[1:] != alone.shape or together.shape != alone.shape:
            raise ValueError(
                "forms need alone_bytes (blocks,), content (models, blocks) and together (blocks,), "
                f"got {alone.shape}, {content.shape} and {together.shape}"
            )
        if (alone <= 0).any():
            raise ValueError(f"alone_bytes must be > 0, got {int(alone.min())} at {int(alone.argmin())}")
        for name, array in (("alone_bytes", alone), ("content", content), ("together", together)):
            _frozen(array)
            object.__setattr__(self, name, array)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockCatalog:
    """The models on offer and the parameter blocks that they are made of. Arrays are copied and read-only."""

    sizes_bytes: Int
    """Bytes of each block, (blocks,), > 0."""
    members: Bool
    """Which model needs which block, (models, blocks), closed under `requires`."""
    model_names: tuple[str, ...] = ()
    """One name a model; `model-<i>` when empty."""
    block_names: tuple[str, ...] = ()
    """One name a block (a block id, for a real store); `block-<j>` when empty."""
    requires: Int = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    """Pairs (j, i), (pairs, 2): block j (a delta, a derived form) is useless without block i."""
    whole_bytes: Int = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Bytes of each model kept as one piece, (models,): not as deltas, which would drag its base along; the
    sum of its blocks when empty."""
    forms: BlockForms | None = None
    """The other forms in which blocks can be delivered; None: each travels as it is kept."""

    def __post_init__(self) -> None:
        sizes = np.array(self.sizes_bytes, dtype=np.int64)
        members = np.array(self.members, dtype=bool)
        requires = np.array(self.requires, dtype=np.int64).reshape(-1, 2)
        _check_catalog(sizes, members, requires)
        whole = np.array(self.whole_bytes if len(self.whole_bytes) else members @ sizes, dtype=np.int64)
        if whole.shape != members.shape[:1] or (whole <= 0).any():
            raise ValueError(
                f"whole_bytes must be > 0 bytes for each of {members.shape[0]} models, got {whole}"
            )
        _check_forms(self.forms, members)
        models = tuple(self.model_names) or tuple(f"model-{i}" for i in range(members.shape[0]))
        blocks = tuple(self.block_names) or tuple(f"block-{j}" for j in range(sizes.size))
        if (len(models), len(blocks)) != members.shape:
            raise ValueError(f"need names for {members.shape}, got {len(models)}, {len(blocks)}")
        for array in (sizes, members, requires, whole):
            _frozen(array)
        object.__setattr__(self, "sizes_bytes", sizes)
        object.__setattr__(self, "members", members)
        object.__setattr__(self, "requires", requires)
        object.__setattr__(self, "whole_bytes", whole)
        object.__setattr__(self, "model_names", models)
        object.__setattr__(self, "block_names", blocks)

    @property
    def num_models(self) -> int:
        """Models on offer."""
        return int(self.members.shape[0])

    @property
    def num_blocks(self) -> int:
        """Distinct blocks."""
        return int(self.sizes_bytes.size)

    @property
    def model_bytes(self) -> Int:
        """Bytes of each model with all its blocks, (models,)."""
        return np.asarray(self.members @ self.sizes_bytes, dtype=np.int64)

    @property
    def dedup_bytes(self) -> int:
        """Bytes of all distinct blocks."""
        return int(self.sizes_bytes.sum())

    @property
    def sharing(self) -> float:
        """Bytes of all models kept apart, over those of their distinct blocks; 1: nothing is shared."""
        return float(self.model_bytes.sum() / self.dedup_bytes)

    def families(self) -> Int:
        """Family of each model, (models,): two models that share a block are of one family."""
        model, block = np.nonzero(self.members)
        edges = (np.ones(model.size), (model, block + self.num_models))
        size = self.num_models + self.num_blocks
        _, labels = connected_components(coo_array(edges, shape=(size, size)), directed=False)
        return np.unique(labels[: self.num_models], return_inverse=True)[1].astype(np.int64)

    def whole_models(self) -> "BlockCatalog":
        """The same models, each one single block of its own: nothing is shared."""
        return BlockCatalog(
            sizes_bytes=self.whole_bytes,
            members=np.eye(self.num_models, dtype=bool),
            model_names=self.model_names,
            block_names=self.model_names,
        )

    def save(self, path: Path) -> None:
        """Write an `.npz` file."""
        forms = {} if self.forms is None else {name: getattr(self.forms, name) for name in _FORM_ARRAYS}
        np.savez_compressed(
            path,
            **forms,
            sizes_bytes=self.sizes_bytes,
            members=self.members,
            requires=self.requires,
            whole_bytes=self.whole_bytes,
            model_names=np.array(self.model_names),
            block_names=np.array(self.block_names),
        )

    @classmethod
    def load(cls, path: Path) -> "BlockCatalog":
        """Read what `save` wrote; raises ValueError when it is not a catalog."""
        try:
            data = read_npz(path, _CATALOG_ARRAYS, _FORM_ARRAYS)
            forms = {name: data[name] for name in _FORM_ARRAYS if name in data}
            return cls(
                forms=BlockForms(**forms) if forms else None,
                sizes_bytes=data["sizes_bytes"],
                members=data["members"],
                requires=data["requires"],
                whole_bytes=data["whole_bytes"],
                model_names=tuple(map(str, data["model_names"].ravel())),
                block_names=tuple(map(str, data["block_names"].ravel())),
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{path} is not a block catalog: {error}") from error


_CATALOG_ARRAYS = {
    "sizes_bytes": "iu",
    "members": "b",
    "requires": "iu",
    "whole_bytes": "iu",
    "model_names": "U",
    "block_names": "U",
}
"""What a catalog's file holds, by kind of number."""
_FORM_ARRAYS = {"alone_bytes": "iu", "content": "b", "together": "iu"}
"""What it holds as well if blocks have other forms."""


def _check_forms(forms: BlockForms | None, members: Bool) -> None:
    """Refuse forms that are not those of a catalog's blocks."""
    if forms is None:
        return
    if forms.content.shape != members.shape:
        raise ValueError(f"content must be {members.shape} like members, got {forms.content.shape}")
    if (forms.content & ~members).any():
        raise ValueError("every block of a model's content must be among its members")


def _check_catalog(sizes: Int, members: Bool, requires: Int) -> None:
    """Refuse what is not a catalog, with one line that says why."""
    if sizes.ndim != 1 or members.ndim != 2 or members.shape[1] != sizes.size:
        raise ValueError(
            f"need sizes (blocks,) and members (models, blocks), got {sizes.shape}, {members.shape}"
        )
    if sizes.size == 0 or members.shape[0] == 0:
        raise ValueError(f"the catalog is empty: {members.shape[0]} models, {sizes.size} blocks")
    if (sizes <= 0).any():
        raise ValueError(
            f"every block needs a size > 0 bytes, got {int(sizes.min())} at {int(sizes.argmin())}"
        )
    bare = np.flatnonzero(~members.any(axis=1))
    if bare.size:
        raise ValueError(f"every model needs a block, model {int(bare[0])} has none")
    if requires.size and (requires.min() < 0 or requires.max() >= sizes.size):
        raise ValueError(f"requires names blocks 0..{sizes.size - 1}, got {requires.min()}..{requires.max()}")
    for block, base in requires:
        if (members[:, block] & ~members[:, base]).any():
            raise ValueError(f"members are not closed: block {block} needs block {base}")


class DelayModel(Protocol):
    """How fast one CoMP broadcast is. This is everything the policy knows of the radio."""

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """Rate at which all of `users` receive what all of `holders` send together.

        Args:
            slot: Slot of the trace, 0 <= slot < slots.
            holders: Sending nodes of each broadcast, (broadcasts, nodes).
            users: Receiving users of each broadcast, (broadcasts, users).

        Returns:
            Rate of the slowest user, bit/s, (broadcasts,): 0 without a holder, inf without a user.
        """
        ...


@runtime_checkable
class LossyDelay(Protocol):
    """What a delay model adds where channels are known only up to an error."""

    @property
    def may_lose(self) -> bool:
        """Whether a broadcast may be lost at first."""
        ...

    def lost(self, slot: int, holders: Sequence[int], users: Sequence[int]) -> bool:
        """Whether one was: coded for more than the true channel carries, and so sent again."""
        ...


@runtime_checkable
class JointDelay(Protocol):
    """What a delay model adds that knows what broadcasts at one time do to one another."""

    def check_together(self) -> None:
        """Whether it knows under its settings.

        Raises:
            ValueError: If not; says what is missing.
        """
        ...

    def together_bit_s(self, slot: int, holders: Bool, users: Bool, alone_bit_s: Float) -> Float:
        """Rates of broadcasts that are on the air at once, as equal parts of those alone as it can.

        Args:
            slot: Slot of the trace.
            holders: Sending nodes, (sets, broadcasts, nodes).
            users: Receiving users, (sets, broadcasts, users); each in one broadcast of a set, none where a
                set has fewer broadcasts.
            alone_bit_s: Rate of each broadcast alone, (sets, broadcasts), bit/s.

        Returns:
            Rate of the slowest user of each, (sets, broadcasts), bit/s.
        """
        ...


def checked_rates(model: DelayModel, slot: int, holders: Bool, users: Bool) -> Float:
    """Ask the delay model and refuse an answer that is not a rate.

    Raises:
        RateError: If a rate is NaN or negative, or there are not as many as broadcasts.
    """
    rates = np.asarray(model.rate_bit_s(slot, holders, users), dtype=np.float64)
    if rates.shape != (holders.shape[0],):
        raise RateError(f"need one rate for each of {holders.shape[0]} broadcasts, got shape {rates.shape}")
    if np.isnan(rates).any() or (rates < 0).any():
        bad = int(np.flatnonzero(np.isnan(rates) | (rates < 0))[0])
        raise RateError(f"rates must be >= 0 bit/s, got {rates[bad]} for broadcast {bad} of slot {slot}")
    return rates


def names_to_index(names: Sequence[str]) -> dict[str, int]:
    """Look-up from a name to its place."""
    return {name: place for place, name in enumerate(names)}
