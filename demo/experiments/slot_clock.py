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
from policy.learn.other_forms import forms_of
from policy.learn.request_statistics import Single
from policy.learn.single_rates import user_air
from policy.learn.slot_clock import ImaginedSlots
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
    """One slot, served from several placements; blocks are those that somebody may be sent."""

    name: str
    air_s: Float
    """Time on the air of each block from each set of nodes to its slowest user, (blocks, 2^nodes), s."""
    hop_s: Float
    cloud_s: Float
    """(blocks,), s."""
    misses: Bool
    """What each user who misses something may be sent, (forms, users, blocks)."""
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
    users = np.flatnonzero(needs.any(axis=1))
    if users.size == 0:
        return None
    forms = forms_of(world.scenario.catalog) if world.devices(slot) is None else None
    misses, sizes = needs[None], world.sizes(slot)
    if forms is not None:
        misses, sizes = forms.needs[:, world.trace.requests[slot]], forms.sizes_bytes
    misses, bits = misses[:, users], 8.0 * sizes.astype(np.float64)
    either: Bool = np.asarray(misses.any(axis=0))
    blocks = np.flatnonzero(either.any(axis=0))
    reach = either[:, blocks, None]
    slowest = np.where(reach, user_air(world, slot, users)[:, None, :], 0.0).max(axis=0)
    tried = placements(world, np.asarray(needs.any(axis=0)), rng)
    delay = [serve_best(world, slot, holds, ServiceRules()).mean_delay_s for holds in tried]
    caching = [to_masks(holds) if forms is None else forms.masks(to_masks(holds)) for holds in tried]
    return Served(
        name=setting.name,
        air_s=slowest * bits[blocks, None],
        hop_s=bits[blocks] / config.links.backhaul_bit_s,
        cloud_s=bits[blocks] / config.links.cloud_bit_s,
        misses=misses[:, :, blocks],
        masks=np.stack(caching)[:, blocks],
        users=int(world.asked(slot).sum()),
        delay_s=np.array(delay),
    )


def block_costs(prices: Tensor, slot: Served) -> Tensor:
    """Priced seconds of each block under each placement, (units, placements, blocks), s."""
    air, hop, cloud = (torch.as_tensor(part) for part in (slot.air_s, slot.hop_s, slot.cloud_s))
    blocks, sets = air.shape
    nodes = sets.bit_length() - 1
    cost = prices[:, 0, None, None] * air
    for node in range(nodes):
        view = cost.reshape(len(prices), blocks, sets >> (node + 1), 2, 1 << node)
        fetched = view[:, :, :, 1] + (prices[:, 1, None] * hop)[:, :, None, None]
        both = torch.stack([torch.minimum(view[:, :, :, 0], fetched), view[:, :, :, 1]], dim=3)
        cost = both.reshape(len(prices), blocks, sets)
    first = cost[:, :, [1 << node for node in range(nodes)]].amin(dim=2) + prices[:, 2, None] * cloud
    cost = torch.cat([first[:, :, None], cost[:, :, 1:]], dim=2)
    return cost[:, torch.arange(blocks)[None], torch.as_tensor(slot.masks)]


def in_turn(prices: Float, slot: Served) -> Single:
    """What is sent by the end of each turn under each placement, (placements, turns, blocks), 0 or 1.

    The order and the forms are those that the clock takes at these prices.
    """
    work = block_costs(torch.as_tensor(prices), slot).numpy().astype(np.float32)
    tried, blocks = work.shape[1:]
    turns = slot.misses.shape[1]
    forms = np.repeat(slot.misses[:, None].astype(np.float32), tried, axis=1)
    slots = ImaginedSlots(  # each placement is a sample; what it costs is known, so all hold one bit
        cost_s=np.ascontiguousarray(work.transpose(0, 2, 1))[:, None],
        sent=np.zeros((tried, turns, blocks), dtype=np.float32),
        weight=np.full((tried, turns), 1.0 / slot.users, dtype=np.float32),
        misses=forms[0],
        alone=forms[1] if len(forms) > 1 else None,
    )
    return slots.in_turn(np.ones((1, blocks))).sent


def in_one_order(slot: Served) -> Single:
    """As `in_turn`, in one order for all placements: least to wait for first if all nodes held all."""
    alone_s = slot.misses[0] @ slot.air_s[:, -1]
    sent = np.maximum.accumulate(slot.misses[0][np.argsort(alone_s, kind="stable")], axis=0)
    return np.repeat(sent[None], len(slot.masks), axis=0).astype(np.float32)


def estimate(log_prices: Tensor, slot: Served, sent: Single) -> Tensor:
    """What the clock says of the mean delay under each placement, (placements,), s; `sent` of `in_turn`."""
    work = block_costs(log_prices.exp(), slot)
    done = torch.einsum("ptb,upb->upt", torch.as_tensor(sent, dtype=work.dtype), work)
    return torch.as_tensor(done.amax(dim=0).sum(dim=1) / slot.users)


def errors(log_prices: Tensor, slot: Served, sent: Single) -> Tensor:
    """Log of the served over the estimated delay, (placements,)."""
    real = torch.as_tensor(slot.delay_s)
    return torch.log(real + SMALL_S) - torch.log(estimate(log_prices, slot, sent) + SMALL_S)


def _loss(error: Tensor) -> Tensor:
    """Differences within a slot count ten times the slot's mean error."""
    return error.var(unbiased=False) + 0.1 * error.mean() ** 2


def loss_of(prices: Float, slots: Sequence[Served]) -> float:
    """What is fitted, with orders and forms as the clock takes them at these prices."""
    log_prices = torch.tensor(np.log(prices))
    return float(np.mean([float(_loss(errors(log_prices, slot, in_turn(prices, slot)))) for slot in slots]))


def fit(slots: Sequence[Served], seed: int, rounds: int = 16, orders: int = 6) -> Float:
    """Prices, (units, 3): orders at the prices of now, Adam's steps on the prices, and so on; the best.

    Args:
        slots: Served slots.
        seed: Of the order in which they are taken.
        rounds: Passes over the slots.
        orders: How often users are put in order anew, evenly over the passes.
    """
    log_prices = torch.tensor(np.log(np.array(START) + 0.01), requires_grad=True)
    adam, rng = torch.optim.Adam([log_prices], 3e-2), np.random.default_rng(seed)
    tried = []
    for turn in range(rounds):
        if turn % max(1, rounds // orders) == 0:
            tried.append(_prices(log_prices))
            sent = [in_turn(tried[-1], slot) for slot in slots]
        for part in np.array_split(rng.permutation(len(slots)), max(1, len(slots) // 24)):
            parts = [_loss(errors(log_prices, slots[place], sent[place])) for place in part.tolist()]
            loss = torch.stack(parts).mean()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    return min([*tried, _prices(log_prices)], key=lambda prices: loss_of(prices, slots))


def _prices(log_prices: Tensor) -> Float:
    return np.asarray(log_prices.detach().exp().numpy()).copy()


def report(prices: Float, slots: Sequence[Served]) -> dict[str, dict[str, float]]:
    """By setting, in logs: spread of the delay over a slot's placements, what is left of it, and the bias."""
    rows: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(slot.name for slot in slots):
        mine = [slot for slot in slots if slot.name == name]
        left = [errors(torch.tensor(np.log(prices)), slot, in_turn(prices, slot)).numpy() for slot in mine]
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


ARRAYS = ("air_s", "hop_s", "cloud_s", "misses", "masks", "delay_s")


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
