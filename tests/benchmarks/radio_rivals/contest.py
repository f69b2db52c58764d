"""Rivals against `radio.solve_broadcast` at equal CPU time, and polishes from its beam."""

import time
from typing import Any

import numpy as np

from radio import RadioConfig, draw_channel, draw_deployment, draw_iid, draw_users, solve_broadcast
from radio.problem import normalise
from radio.reference.sqp import sequential_quadratic
from radio_rivals.admm import admm
from radio_rivals.admm_elimination import admm_elimination
from radio_rivals.balancing import rate_balancing
from radio_rivals.common import Rival, curve, least
from radio_rivals.quasi_newton import climb, soft_minimum
from radio_rivals.stuffed import solve_stuffed, stuffed_relaxation
from radio_rivals.subgradient import projected_subgradient

__all__ = ["calls", "contest"]

RIVALS: dict[str, Rival] = {
    "ADMM": admm,
    "ADMM, elimination": admm_elimination,
    "rate balancing": rate_balancing,
    "subgradient": projected_subgradient,
    "L-BFGS soft-min": soft_minimum,
    "stuffed SCS": stuffed_relaxation,
}
SIZES = (
    *((2, 4, users, 24) for users in (8, 32, 64)),
    (4, 1, 8, 24),
    *((4, 4, users, 24) for users in (16, 64)),
    *((4, 8, users, count) for users, count in ((32, 24), (128, 8))),
    *((8, 8, users, count) for users, count in ((32, 12), (64, 8), (256, 4))),
    *((64, 8, users, 2) for users in (64, 256)),
)
"""Nodes, antennas, users, instances."""
_LARGEST_EIGEN, _LARGEST_SCS, _LARGEST_QUADRATIC = 64, 16, 1 << 11
"""Antennas in all up to which matrices of their square are tried; antennas times users for SLSQP."""


def draw(kind: str, nodes: int, antennas: int, users: int, count: int) -> np.ndarray:
    """Scaled CSI of 500 m UMi, of i.i.d. Rayleigh, or with a correlation of 0.9 between neighbours."""
    rng = np.random.default_rng([2026, nodes, antennas, users])
    if kind == "umi":
        config = RadioConfig(num_nodes=nodes, num_antennas=antennas, num_users=users)
        h = [draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng) for _ in range(count)]
        return normalise(np.stack(h), config.power_w, config.noise_w).g
    h = draw_iid(users, nodes, antennas, rng, (count,))
    if kind == "correlated":
        apart = np.abs(np.subtract.outer(np.arange(antennas), np.arange(antennas)))
        h = h @ np.linalg.cholesky(0.9**apart).T
    return normalise(h, 1.0, 1.0).g


def contest(*, quick: bool) -> list[dict[str, Any]]:
    """Median and highest of the rival's SNR over ours, at our CPU time and at four times it."""
    rows = []
    for kind in ("umi", "iid", "correlated"):
        for nodes, antennas, users, count in SIZES[:5:2] if quick else SIZES:
            g = draw(kind, nodes, antennas, users, min(count, 6) if quick else count)
            solve_broadcast(g[:2], 1.0, 1.0)
            started = time.process_time()
            ours = solve_broadcast(g, 1.0, 1.0)
            spent = time.process_time() - started
            row: dict[str, Any] = {
                "kind": kind,
                "size": f"{nodes}x{antennas} K={users}",
                "instances": len(g),
                "our_ms": round(1e3 * spent / len(g), 3),
                "gap": round(float(np.median(ours.gap)), 4),
                "largest_residual": float(ours.kkt_residual.max()),
                "rivals": {},
            }
            for name, rival in RIVALS.items():
                if fits(name, nodes * antennas):
                    found = curve(g, rival, spent)
                    row["rivals"][name] = {f"{m:g}x": spread(v / ours.min_snr) for m, v in found.items()}
            row["polish"] = polishes(g, ours, spent)
            if nodes * antennas <= _LARGEST_SCS:
                started = time.process_time()
                value = solve_stuffed(g[0])[0]
                row["scs_bound_ms"] = round(1e3 * (time.process_time() - started), 1)
                row["scs_bound_over_ours"] = round(value / float(ours.upper_bound[0]), 6)
            rows.append(row)
            show(row)
    return rows


def fits(name: str, size: int) -> bool:
    """Whether a rival can be run at all on so many antennas."""
    return size <= {"ADMM, elimination": _LARGEST_EIGEN, "stuffed SCS": _LARGEST_SCS}.get(name, size)


def polishes(g: np.ndarray, ours: Any, spent: float) -> dict[str, Any]:  # noqa: ANN401
    """What L-BFGS and SLSQP gain from our beam, median and most, and their time over all of ours."""
    nodes, antennas = g.shape[2:]
    methods = {"L-BFGS": lambda row, w: climb(row, w)}
    if nodes * antennas * g.shape[1] <= _LARGEST_QUADRATIC:
        silent = np.zeros(g.shape[1]), np.ones(nodes)
        methods["SLSQP"] = lambda row, w: sequential_quadratic(row, w[..., None], *silent, 60)[..., 0]
    found = {}
    for name, method in methods.items():
        started = time.process_time()
        beams = np.stack([method(row, w) for row, w in zip(g, ours.w[..., 0], strict=True)])
        taken = time.process_time() - started
        gain = np.maximum(least(g, beams[:, None]) / ours.min_snr - 1.0, 0.0)
        found[name] = {
            "gain": [round(float(np.median(gain)), 6), round(float(gain.max()), 6)],
            "time_over_ours": round(taken / spent, 2),
        }
    return found


def calls(*, quick: bool) -> list[dict[str, Any]]:
    """CPU ms of a broadcast in calls of 1, 16 and 240; and from the last slot's beams, 3 % of h later."""
    rows = []
    sizes = ((2, 4, 8), (4, 4, 16), (4, 8, 32), (8, 8, 32), (2, 4, 32))
    for kind in ("umi", "iid"):
        for nodes, antennas, users in sizes[:2] if quick else sizes:
            g = draw(kind, nodes, antennas, users, 16)
            rng = np.random.default_rng(0)
            noise = rng.standard_normal((2, *g.shape)) * np.linalg.norm(g, axis=3)[..., None]
            later = g + 0.03 * (noise[0] + 1j * noise[1]) / np.sqrt(2.0 * antennas)
            solve_broadcast(g[0], 1.0, 1.0)
            row = {"kind": kind, "size": f"{nodes}x{antennas} K={users}"}
            for batch in (16, 240):
                many = np.tile(g, (batch // 16, 1, 1, 1))
                row[f"ms_{batch}"] = timed(lambda many=many: solve_broadcast(many, 1.0, 1.0)) / batch
            before = [solve_broadcast(one, 1.0, 1.0).w for one in g]
            for name, options in {
                "ms_1": [{}] * 16,
                "warm_1": [{"start": w} for w in before],
                "warm_unproven_1": [{"start": w, "certify": "none"} for w in before],
            }.items():
                given = list(zip(later, options, strict=True))
                row[name] = float(
                    np.median([timed(lambda h=h, o=o: solve_broadcast(h, 1.0, 1.0, **o)) for h, o in given])
                )
                value = [float(solve_broadcast(h, 1.0, 1.0, **o).min_snr) for h, o in given]
                row[f"{name}_snr"] = float(np.median(value / solve_broadcast(later, 1.0, 1.0).min_snr))
            rows.append(row)
            print(" ".join(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()), flush=True)
    return rows


def timed(call: Any) -> float:  # noqa: ANN401
    """CPU ms of a call."""
    started = time.process_time()
    call()
    return 1e3 * (time.process_time() - started)


def spread(ratio: np.ndarray) -> list[float]:
    """Median and most."""
    return [round(float(np.median(ratio)), 5), round(float(ratio.max()), 5)]


def show(row: dict[str, Any]) -> None:
    """One line of a row."""
    others = "  ".join(f"{n} {v['1x'][0]:.3f}/{v['4x'][0]:.3f}" for n, v in row["rivals"].items())
    gains = "  ".join(f"+{n} {v['gain'][0]:.5f}/{v['gain'][1]:.5f}" for n, v in row["polish"].items())
    print(f"{row['kind']} {row['size']} {row['our_ms']} ms | {others} | {gains}", flush=True)
