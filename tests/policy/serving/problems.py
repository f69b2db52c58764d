"""Small random slots."""

from typing import Any

import numpy as np

from policy.config import LinkConfig
from policy.slot.problem import SlotProblem
from policy.world.cheap_radio import ProxyDelay


def random_problem(
    seed: int,
    nodes: int = 3,
    users: int = 4,
    blocks: int = 6,
    cached: float = 0.3,
    **more: Any,  # noqa: ANN401
) -> SlotProblem:
    """Blocks of 1 to 100 MB, users at 1 to 20 dB, links of 30 Mbit/s to 3 Gbit/s, some of them busy."""
    rng = np.random.default_rng(seed)
    backhaul = 10 ** rng.uniform(8, 9.5)
    snr = 10 ** rng.uniform(0.1, 2, (1, users, nodes))
    needs = rng.random((users, blocks)) < 0.5
    settings: dict[str, Any] = {
        "slot": 0,
        "sizes_bytes": (10 ** rng.uniform(6, 8, blocks)).astype(np.int64),
        "delay": ProxyDelay(snr=snr, bandwidth_hz=100e6, coherent=bool(rng.random() < 0.5)),
        "asked": needs.any(axis=1),
        "needs": needs,
        "cached": rng.random((nodes, blocks)) < cached,
        "links": LinkConfig(backhaul_bit_s=backhaul, cloud_bit_s=backhaul * 10 ** rng.uniform(-1.5, 0)),
        "timing": "pipelined",
        "link_free_s": rng.exponential(0.3, nodes) * (rng.random(nodes) < 0.3),
        "band_free_s": float(rng.exponential(0.1)) * (rng.random() < 0.3),
    }
    return SlotProblem(**(settings | more))
