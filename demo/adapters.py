"""`pbstore` and `radio` dressed as what `policy` knows: a block catalogue and a delay model."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pbstore import BlockId, DiskBlockStore
from policy.interfaces import BlockCatalog, Bool, Float
from policy.world.trace import Trace
from radio import (
    RadioConfig,
    draw_channel,
    draw_deployment,
    expected_snr,
    node_coherence,
    rate_bit_s,
    solve_broadcast,
)

SMALL_BLOCK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class StoreCatalog:
    """A catalogue of what a store holds."""

    catalog: BlockCatalog
    """Coded sizes, and which model needs which unit."""
    units: tuple[tuple[BlockId, ...], ...]
    """Stored blocks of each column of the catalogue, each one behind the blocks that it needs."""


def catalogue_from_store(
    store: DiskBlockStore, bases: Mapping[str, str | None] | None = None, small_bytes: int = SMALL_BLOCK_BYTES
) -> StoreCatalog:
    """The catalogue of a store's models, in the form in which the blocks are stored: raw, delta or derived.

    Blocks below `small_bytes` that exactly the same models need (biases, norms, headers) count as one unit of
    placement: no policy could treat them differently to any effect.

    Args:
        store: Store with the models.
        bases: Base of each model that cannot run without it (an adapter): its blocks are needed too.
        small_bytes: Stored size below which blocks are put together.
    """
    names = store.models()
    wanted = {name: list(store.blocks(name)) for name in names}
    needs_base = {name: base for name, base in (bases or {}).items() if base is not None}
    for name, base in needs_base.items():
        wanted[name] = list(dict.fromkeys([*wanted[base], *wanted[name]]))
    needed_by: dict[BlockId, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        for block_id in wanted[name]:
            needed_by[block_id].append(row)
    infos = {block_id: store.info(block_id) for block_id in needed_by}
    grouped: dict[tuple[object, ...], list[BlockId]] = defaultdict(list)
    for block_id, rows in needed_by.items():
        small = infos[block_id].stored_bytes < small_bytes
        grouped[(*rows,) if small else (block_id,)].append(block_id)
    units = tuple(map(tuple, grouped.values()))
    column = {block_id: j for j, unit in enumerate(units) for block_id in unit}
    members = np.zeros((len(names), len(units)), dtype=bool)
    for block_id, rows in needed_by.items():
        members[rows, column[block_id]] = True
    manifests = {name: store.manifest(name) for name in names}
    whole = {name: manifest.raw_bytes for name, manifest in manifests.items()}
    for name, base in needs_base.items():
        whole[name] += manifests[base].raw_bytes
    pairs = {(column[b], column[need]) for b, info in infos.items() for need in info.needs}
    catalog = BlockCatalog(
        sizes_bytes=np.array([sum(infos[b].stored_bytes for b in unit) for unit in units]),
        members=members,
        model_names=names,
        block_names=tuple(unit[0] for unit in units),
        whole_bytes=np.array([whole[name] for name in names]),
        requires=np.array(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=np.int64).reshape(
            -1, 2
        ),
    )
    return StoreCatalog(catalog, units)


class RadioDelay:
    """Rates of real CoMP beamformers over TR 38.901 channels: the `DelayModel` of a trace.

    Large-scale fading follows the users through one deployment; small-scale fading is fresh in every slot,
    since a slot is much longer than the coherence time. Answers are remembered: schemes ask alike. The rate
    is that of the config's `link`; with phase or timing errors between nodes it is at the mean SNR over them.
    """

    def __init__(self, config: RadioConfig, trace: Trace, seed: int) -> None:
        """Draw the deployment around the trace's nodes."""
        self._config, self._trace, self._seed = config, trace, seed
        self._deployment = draw_deployment(config, np.random.default_rng([seed, 0]), trace.node_xy)
        self._known: dict[int, dict[bytes, float]] = defaultdict(dict)
        self.worst_gap = 0.0
        """Largest certified gap, 1 - SNR / upper bound, of all of them."""

    def rate_bit_s(self, slot: int, holders: Bool, users: Bool) -> Float:
        """See `policy.interfaces.DelayModel`."""
        keys = [row.tobytes() for row in np.packbits(np.concatenate([holders, users], axis=1), axis=1)]
        known = self._known[slot]
        missing = {key: row for row, key in enumerate(keys) if key not in known}
        if missing:
            rows = list(missing.values())
            known.update(zip(missing, self._solve(slot, holders[rows], users[rows]), strict=True))
        return np.array([known[key] for key in keys])

    def _solve(self, slot: int, holders: Bool, users: Bool) -> list[float]:
        rng = np.random.default_rng([self._seed, 1, slot])
        h = draw_channel(self._deployment, self._trace.user_xy[slot], rng)
        config = self._config
        result = solve_broadcast(h, config.power_w, config.noise_w, holders=holders, users=users, rng=rng)
        self.worst_gap = max(self.worst_gap, float(result.gap.max(initial=0.0)))
        worst = result.worst_snr
        if config.phase_std_deg or config.timing_std_s:
            coherence = node_coherence(
                np.deg2rad(config.phase_std_deg), config.timing_std_s, config.bandwidth_hz
            )
            snr = expected_snr(h, result.w, config.noise_w, coherence)
            worst = np.minimum(worst, np.where(users, snr, np.inf).min(axis=-1))
        rates: list[float] = rate_bit_s(config, worst).tolist()
        return rates
