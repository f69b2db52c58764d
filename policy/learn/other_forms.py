"""Blocks in the forms in which users may be sent them: as they are kept, or alone, needing no other.

Where a catalog's blocks have several forms (`BlockForms`), the chain sends a fine-tune either with its base
or alone. Here each such block stands twice, once in each form, and a user is sent either what its model
needs as kept or what it is itself made of. A node can send a block alone if it holds it, with all that
travels in one form with it, and all that its kept form needs; else it comes from the cloud in that form.
"""

from dataclasses import dataclass

import numpy as np

from policy.interfaces import BlockCatalog, Bool, Int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherForms:
    """A catalog's blocks, and after them those that can be sent alone once more."""

    sizes_bytes: Int
    """(blocks + alone,)."""
    needs: Bool
    """What each model is, as kept and alone, (2, models + 1, blocks + alone); the last model is none."""
    tied: Int
    """Blocks that can be sent alone, (alone,)."""
    closed: Bool
    """What a node must hold to send each of them alone, (alone, blocks)."""

    def masks(self, kept: Int) -> Int:
        """Nodes that can send each block in each form, (blocks + alone,).

        Args:
            kept: Nodes that hold each block, (blocks,).
        """
        able = np.where(self.closed, kept, -1)  # -1: all bits
        return np.concatenate([kept, np.bitwise_and.reduce(able, axis=1)])


def forms_of(catalog: BlockCatalog) -> OtherForms | None:
    """A catalog's blocks in all their forms; None if each has one."""
    forms, blocks = catalog.forms, catalog.num_blocks
    if forms is None or not len(catalog.requires):
        return None
    together: Bool = np.equal.outer(forms.together, forms.together)
    closed = together.copy()
    closed[tuple(catalog.requires.T)] = True
    while ((wider := (closed.astype(np.int64) @ closed.astype(np.int64)) > 0) != closed).any():
        closed = wider
    tied = np.flatnonzero((closed & ~together).any(axis=1))
    none = np.zeros((1, blocks), dtype=bool)
    kept, content = (np.vstack([part, none]) for part in (catalog.members, forms.content))
    other = np.zeros((len(kept), tied.size), dtype=bool)
    alone = content.copy()
    alone[:, tied] = False
    return OtherForms(
        sizes_bytes=np.concatenate([catalog.sizes_bytes, forms.alone_bytes[tied]]),
        needs=np.stack([np.hstack([kept, other]), np.hstack([alone, content[:, tied]])]),
        tied=tied,
        closed=closed[tied],
    )
