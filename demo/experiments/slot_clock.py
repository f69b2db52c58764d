"""Distil the clock of a slot from served slots of the real chain: see `policy.learn.slot_clock`.

    python -m demo.experiments.slot_clock --worlds 80 --out runs/clock.safetensors

Training worlds of the ten settings, with wires and room changed at random, are served from many placements
each: random partitions, whole models first, the same blocks everywhere, and those that hold more of what is
asked for. The prices are fitted to the logarithm of the mean user delay, above all to its differences between
placements of one slot; one slot in four is kept apart and tells the error. The same seed gives the same
prices. Served slots are kept beside the result, so a run that was stopped goes on.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demo.experiments.options import experiment_parser
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.config import LinkConfig
from policy.interfaces import Bool, Float, Int
from policy.learn.checkpoint import load_checkpoint, save_checkpoint, versions, weights_of
from policy.learn.single_rates import user_air
from policy.play.migration import serve_best
from policy.scenario import Scenario, World
from policy.schemes.static_distinct import first_copies, further_copies, whole_models_first
from policy.slot.tables import ServiceRules, to_masks
from policy.world.splits import world_seed

SLOTS = (1, 4, 7)
"""Slots of each world that are served."""
START = ((1.0, 0.0, 0.0), (0.7, 0.07, 0.07), (0.45, 0.13, 0.13), (0.24, 0.19, 0.19), (0.02, 0.02, 0.25))
"""Prices to start from: about a lower bound."""
APART = 4
"""One slot in so many tells the error."""
SMALL_S = 0.02
"""Delays are compared as logarithms of themselves and this, s."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """One slot, served from several placements; blocks are those that somebody misses."""

    name: str
    air_s: Float
    """Time on the air of each block from each set of nodes to its slowest user, (blocks, 2^nodes), s."""
    hop_s: Float
    cloud_s: Float
    """(blocks,), s."""
    turn: Int
    """First turn in which a block is sent, (blocks,)."""
    masks: Int
    """Caching nodes, (placements, blocks)."""
    users: int
    """Users who asked."""
    delay_s: Float
    """Mean user delay as served, (placements,), s."""


def jittered(setting: Setting, rng: np.random.Generator) -> World:
    """A short training world of a setting with other wires and other room, each by up to 65 %."""
    scenario = setting.scenario()
    config, (hop, cloud, room) = scenario.config, np.exp(rng.uniform(-0.5, 0.5, 3))
    backhaul = float(config.links.backhaul_bit_s * hop)
    links = LinkConfig(
        backhaul_bit_s=backhaul, cloud_bit_s=min(backhaul, float(config.links.cloud_bit_s * cloud))
    )
    share = float(np.clip(config.capacity_share * room, 0.04, 0.9))
    changed = replace(config, links=links, capacity_share=share, num_slots=SLOTS[-1] + 1)
    seed = world_seed("train", 200_000 + int(rng.integers(200_000)))
    return setting.make_world()(Scenario(changed, scenario.catalog), seed)


def placements(world: World, asked: Bool, rng: np.random.Generator) -> list[Bool]:
    """Ten placements of all kinds, (nodes, blocks) each; `asked` are blocks that somebody will miss."""
    catalog, nodes = world.scenario.catalog, world.scenario.config.num_nodes
    blocks, sizes = catalog.num_blocks, catalog.sizes_bytes
    orders = [
        order
        for _ in range(2)
        for order in (
            whole_models_first(rng.permutation(catalog.num_models), catalog.members),
            rng.permutation(blocks),
            np.argsort(-catalog.members.sum(axis=0) - rng.random(blocks)),
        )
    ]
    orders += [np.argsort(-rng.random(blocks) - weight * asked) for weight in (0.3, 0.9)]
    tried = []
    for order in orders:
        room = world.scenario.capacity_bytes.copy()
        holds = first_copies(order, sizes, room, rng.random((nodes, blocks)))
        further_copies(holds, order, sizes, room)
        tried.append(holds)
    for same in (True, False):
        common = rng.permutation(blocks)
        rows = [common if same else rng.permutation(blocks) for _ in range(nodes)]
        full = np.cumsum(sizes[np.stack(rows)], axis=1) <= world.scenario.capacity_bytes[:, None]
        holds = np.zeros((nodes, blocks), dtype=bool)
        np.put_along_axis(holds, np.stack(rows), full, axis=1)
        tried.append(holds)
    return tried


def served(setting: Setting, world: World, slot: int, rng: np.random.Generator) -> Served | None:
    """A slot served from ten placements on idle links; None if nobody misses anything."""
    needs, config = world.needs(slot), world.scenario.config
    users, blocks = np.flatnonzero(needs.any(axis=1)), np.flatnonzero(needs.any(axis=0))
    if users.size == 0:
        return None
    bits, miss = 8.0 * world.sizes(slot).astype(np.float64), needs[users]
    air = user_air(world, slot, users)
    order = np.argsort((miss @ bits) * air[:, -1], kind="stable")
    turn = miss[order][:, blocks].argmax(axis=0)
    slowest = np.where(miss[:, blocks, None], air[:, None, :], 0.0).max(axis=0)
    tried = placements(world, np.asarray(needs.any(axis=0)), rng)
    delay = [serve_best(world, slot, holds, ServiceRules()).mean_delay_s for holds in tried]
    return Served(
        name=setting.name,
        air_s=slowest * bits[blocks, None],
        hop_s=bits[blocks] / config.links.backhaul_bit_s,
        cloud_s=bits[blocks] / config.links.cloud_bit_s,
        turn=turn,
        masks=np.stack([to_masks(holds)[blocks] for holds in tried]),
        users=int(world.asked(slot).sum()),
        delay_s=np.array(delay),
    )


def estimate(log_prices: Tensor, slot: Served) -> Tensor:
    """What the clock says of the mean delay under each placement, (placements,), s."""
    price = log_prices.exp()
    air, hop, cloud = (torch.as_tensor(part) for part in (slot.air_s, slot.hop_s, slot.cloud_s))
    blocks, sets = air.shape
    nodes = sets.bit_length() - 1
    cost = price[:, 0, None, None] * air
    for node in range(nodes):
        view = cost.reshape(len(price), blocks, sets >> (node + 1), 2, 1 << node)
        fetched = view[:, :, :, 1] + (price[:, 1, None] * hop)[:, :, None, None]
        both = torch.stack([torch.minimum(view[:, :, :, 0], fetched), view[:, :, :, 1]], dim=3)
        cost = both.reshape(len(price), blocks, sets)
    first = cost[:, :, [1 << node for node in range(nodes)]].amin(dim=2) + price[:, 2, None] * cloud
    cost = torch.cat([first[:, :, None], cost[:, :, 1:]], dim=2)
    work = cost[:, torch.arange(blocks)[None], torch.as_tensor(slot.masks)]
    turns = int(slot.turn.max()) + 1
    sums = torch.zeros(*work.shape[:2], turns, dtype=work.dtype)
    done = sums.index_add(2, torch.as_tensor(slot.turn), work).cumsum(dim=2)
    return torch.as_tensor(done.amax(dim=0).sum(dim=1) / slot.users)


def errors(log_prices: Tensor, slot: Served) -> Tensor:
    """Log of the served over the estimated delay, (placements,)."""
    real = torch.as_tensor(slot.delay_s)
    return torch.log(real + SMALL_S) - torch.log(estimate(log_prices, slot) + SMALL_S)


def fit(slots: Sequence[Served], seed: int, rounds: int = 16) -> Float:
    """Prices, (units, 3), by Adam; differences within a slot count ten times the slot's mean error."""
    log_prices = torch.tensor(np.log(np.array(START) + 0.01), requires_grad=True)
    adam, rng = torch.optim.Adam([log_prices], 3e-2), np.random.default_rng(seed)
    for _ in range(rounds):
        for part in np.array_split(rng.permutation(len(slots)), max(1, len(slots) // 24)):
            parts = [errors(log_prices, slots[place]) for place in part.tolist()]
            loss = torch.stack([e.var(unbiased=False) + 0.1 * e.mean() ** 2 for e in parts]).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    return np.asarray(log_prices.detach().exp().numpy())


def report(prices: Float, slots: Sequence[Served]) -> dict[str, dict[str, float]]:
    """By setting, in logs: spread of the delay over a slot's placements, what is left of it, and the bias."""
    rows: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(slot.name for slot in slots):
        mine = [slot for slot in slots if slot.name == name]
        left = [errors(torch.tensor(np.log(prices)), slot).numpy() for slot in mine]
        real = [np.log(slot.delay_s + SMALL_S) for slot in mine]
        rows[name] = {
            "spread": float(np.sqrt(np.mean([part.var() for part in real]))),
            "error": float(np.sqrt(np.mean([part.var() for part in left]))),
            "bias": float(np.mean([part.mean() for part in left])),
        }
    return rows


def gathered(settings: Sequence[Setting], worlds: int, seed: int, folder: Path) -> list[Served]:
    """Served slots of so many worlds, the settings in turn; each world is kept in a file as it is done."""
    slots: list[Served] = []
    for number in range(worlds):
        setting, file = settings[number % len(settings)], folder / f"{seed}-{number}.npz"
        rng = np.random.default_rng([seed, number])
        if not file.is_file():
            world = jittered(setting, rng)
            done = [served(setting, world, slot, rng) for slot in SLOTS]
            _keep(file, [slot for slot in done if slot is not None])
        slots += _kept(file, setting.name)
    return slots


ARRAYS = ("air_s", "hop_s", "cloud_s", "turn", "masks", "delay_s")


def _keep(file: Path, slots: Sequence[Served]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"{at}.{name}": getattr(slot, name) for at, slot in enumerate(slots) for name in ARRAYS}
    fresh = file.with_suffix(".tmp.npz")
    np.savez_compressed(fresh, users=np.array([slot.users for slot in slots], dtype=np.int64), **arrays)
    fresh.replace(file)


def _kept(file: Path, name: str) -> list[Served]:
    with np.load(file, allow_pickle=False) as kept:
        arrays = dict(kept)
    return [
        Served(name=name, users=int(users), **{part: arrays[f"{at}.{part}"] for part in ARRAYS})
        for at, users in enumerate(arrays["users"].tolist())
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve, fit, tell the error, keep the prices beside the trade-offs that are played now."""
    options = _parser().parse_args(argv)
    torch.set_num_threads(1)
    began = time.process_time()
    chosen = [one for one in SETTINGS if one.name in (options.settings or [s.name for s in SETTINGS])]
    slots = gathered(chosen, options.worlds, options.seed, options.out.with_suffix(".slots"))
    learnt = [slot for place, slot in enumerate(slots) if place % APART]
    prices = fit(learnt, options.seed)
    about: dict[str, Any] = {
        "kind": "augur-decisions",
        "clock": {
            "seed": options.seed,
            "worlds": options.worlds,
            "slots": len(slots),
            "cpu_s": round(time.process_time() - began, 1),
            "kept_apart": report(prices, slots[::APART]),
        },
        "versions": versions(),
    }
    now = load_checkpoint(weights_of("augur-decisions"))
    tensors = {**now.tensors, "clock.prices": prices.astype(np.float32)}
    save_checkpoint(options.out, tensors, now.about | about)
    print(json.dumps(about["clock"], indent=1), file=sys.stdout)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(__doc__, Path("runs/clock.safetensors"))
    parser.add_argument("--worlds", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", type=lambda text: text.split(","), help="names; default: all ten")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
