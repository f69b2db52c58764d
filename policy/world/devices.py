"""What devices keep of what they downloaded. It depends on requests alone, so it is part of the world."""

import math

import numpy as np

from policy.config import RequestConfig
from policy.interfaces import BlockCatalog, Bool, Int


def device_blocks(requests: Int, catalog: BlockCatalog, config: RequestConfig) -> Bool | None:
    """Blocks on each device before each slot; None when devices keep nothing.

    After a slot a device holds, while there is room, the blocks that it used most recently.

    Args:
        requests: Model each user asks for, -1 for none, (slots, users).
        catalog: Sizes and members.
        config: `keep_downloads` and `device_bytes`.

    Returns:
        (slots, users, blocks), or None.
    """
    if not config.keep_downloads:
        return None
    slots, users = requests.shape
    kept = np.zeros((slots, users, catalog.num_blocks), dtype=bool)
    used = np.full((users, catalog.num_blocks), -1, dtype=np.int64)
    for slot in range(slots):
        kept[slot] = used >= 0
        for user in np.flatnonzero(requests[slot] >= 0):
            used[user, catalog.members[requests[slot, user]]] = slot
            if math.isfinite(config.device_bytes):
                used[user] = _evict(used[user], catalog.sizes_bytes, config.device_bytes)
    return kept


def _evict(used: Int, sizes_bytes: Int, room_bytes: float) -> Int:
    """Keep the blocks used last that fit; -1 marks a block that is not there."""
    newest = np.argsort(-used, kind="stable")
    fits = np.cumsum(np.where(used[newest] >= 0, sizes_bytes[newest], 0)) <= room_bytes
    kept = used.copy()
    kept[newest[~fits]] = -1
    return kept
