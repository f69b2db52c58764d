"""How much forecasts could still learn: log loss of ours beside one who is told the hidden state.

    python -m demo.experiments.forecast_loss

Four forecasts of the same slots, requests only: any model alike (told how often users ask), the running
statistics that nothing was trained on, the trained demand network, and
`policy.bounds.told_distribution.TrueChances`, who knows the true chances but for what moves between slots.
Nobody who does not see the future has a lower loss than the last. On training worlds that the network was not
trained on.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from demo.experiments.by_setting import at_least_one
from demo.experiments.options import experiment_parser
from demo.experiments.settings_ten import RESULTS
from demo.experiments.ten_settings import SETTINGS, Setting
from policy.bounds.told_distribution import TrueChances
from policy.interfaces import Float, Int
from policy.kept import replace_text, write_json
from policy.learn.demand import DemandModel
from policy.learn.forecast import Forecaster
from policy.parallel import spread
from policy.play.scheme import History
from policy.scenario import World
from policy.schemes.learned import learned_from
from policy.slot.tables import ServiceRules
from policy.world.splits import world_seed

WHO = ("alike", "statistics", "learned", "told")
"""Any model alike, nothing trained, ours, and who is told the distribution."""
PARTS = ((0, 4), (4, 12), (12, 24))
"""Slots that are told apart: what is popular is hidden at first."""


def log_loss(chance: Float, asked: Int) -> float:
    """Negative log likelihood of a slot, in nats a user.

    Args:
        chance: That each user asks for each model, (users, models); rows sum to at most 1.
        asked: What each asked for, (users,), -1 for nothing.
    """
    every = np.hstack([chance, np.maximum(1.0 - chance.sum(axis=1, keepdims=True), 0.0)])
    picked = every[np.arange(asked.size), asked]  # -1 is the last column
    return float(-np.log(np.maximum(picked, 1e-12)).mean())


def losses(world: World) -> Float:
    """Log loss of each of `WHO` in each slot, (4, slots)."""
    scenario, trace = world.scenario, world.trace
    told = {
        "statistics": Forecaster(scenario, DemandModel.untrained()),
        "learned": Forecaster(scenario, learned_from().demand),
        "told": TrueChances(scenario, world),
    }
    often = (trace.requests >= 0).mean()
    alike = np.full((trace.requests.shape[1], scenario.families.size), often / scenario.families.size)
    rows = []
    for slot in range(trace.num_slots):
        history = History(world, slot, ServiceRules())
        chances = [alike, *(told[name].chance(history, slot)[0] for name in WHO[1:])]
        rows.append([log_loss(chance, trace.requests[slot]) for chance in chances])
    return np.array(rows).T


def play(setting: Setting, worlds: int, first: int) -> tuple[str, Float]:
    """Losses in some training worlds of a setting, (worlds, 4, slots); the radio is never asked."""
    scenario = setting.scenario()
    seeds = (world_seed("train", first + number) for number in range(worlds))
    return setting.name, np.stack([losses(scenario.world(seed)) for seed in seeds])


def summary(loss: Float) -> dict[str, Any]:
    """Mean losses in each part of the worlds; how far ours is above the told one, with its standard error."""
    told: dict[str, Any] = {}
    for first, last in PARTS:
        part = loss[:, :, first:last].mean(axis=2)
        above = part[:, WHO.index("learned")] - part[:, WHO.index("told")]
        told[f"slots {first} to {last - 1}"] = {
            "nats": dict(zip(WHO, part.mean(axis=0).round(4).tolist(), strict=True)),
            "above_told": round(float(above.mean()), 4),
            "standard_error": round(float(above.std(ddof=1) / np.sqrt(len(above))), 4),
        }
    return told


def markdown(results: dict[str, dict[str, Any]], command: str) -> str:
    """One row a setting."""
    parts = list(next(iter(results.values())))
    heads = [f"{part}: {', '.join(WHO)}" for part in parts]
    heads = [cell for pair in zip(heads, ["ours above told"] * len(parts), strict=True) for cell in pair]
    lines = [
        "# What forecasts could still learn\n",
        "Log loss of each slot's requests, nats a user, and how far ours is above who is told the",
        f"hidden state (standard error over worlds). Made by `{command}`.\n",
        f"| setting | {' | '.join(heads)} |",
        "|---|" + "---|" * len(heads),
    ]
    for setting, one in results.items():
        cells = [setting]
        for part in one.values():
            cells.append(", ".join(f"{nats:.3f}" for nats in part["nats"].values()))
            cells.append(f"{part['above_told']:.3f} ({part['standard_error']:.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Forecast, write the table and print it."""
    parser = experiment_parser(__doc__, RESULTS)
    parser.add_argument("--worlds", type=at_least_one, default=32, help="of each setting (%(default)s)")
    parser.add_argument("--first-world", type=int, default=300700, help="of split train (%(default)s)")
    parser.add_argument("--workers", type=at_least_one, default=1, help="processes (%(default)s)")
    options = parser.parse_args(argv)
    if options.worlds < 2:
        parser.error("--worlds must be >= 2: a standard error needs two")
    work = partial(play, worlds=options.worlds, first=options.first_world)
    done = dict(spread(work, SETTINGS, options.workers))
    results = {each.name: summary(done[each.name]) for each in SETTINGS}
    where = f"--worlds {options.worlds} --first-world {options.first_world}"
    table = markdown(results, f"python -m demo.experiments.forecast_loss {where}")
    path: Path = options.out / "forecast-loss.md"
    write_json(path.with_suffix(".json"), {"worlds": options.worlds, "results": results})
    replace_text(path, table)
    print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
