"""Broadcast beamforming: quality, speed and growth, side by side with cvxpy.

    python tests/benchmarks/bench_radio.py [--quick]

Prints tables and writes results/radio.json. Times are CPU seconds of this process (`time.process_time`) with
one thread of linear algebra, so that other work on the machine changes them little. Instances are seeded.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import platform
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from radio_rivals.contest import calls, contest

from radio import (
    BASELINES,
    RadioConfig,
    draw_channel,
    draw_deployment,
    draw_iid,
    draw_users,
    plan_groups,
    solve_baseline,
    solve_broadcast,
    solve_subbands,
)
from radio.bounds import exact_bound
from radio.fast.effort import Effort, Stage
from radio.fast.worst_case import worst_case
from radio.problem import normalise
from radio.reference.global_beam import global_beam
from radio.reference.randomise import gaussian_randomisation, min_power
from radio.reference.robust import difference_of_convex, solve_robust_relaxation
from radio.reference.sca import successive_cones
from radio.reference.sdr import solve_relaxation
from radio.reference.sqp import sequential_quadratic

SIZES = ((2, 4), (4, 4), (4, 8), (8, 8))
"""Nodes and antennas of each."""
USERS = (4, 8, 16, 32)
LIMITS = (
    *(("umi", nodes, antennas, 32) for nodes, antennas in SIZES),
    *(("iid", nodes, antennas, users) for nodes, antennas in ((2, 4), (4, 4), (4, 8)) for users in (4, 8)),
    ("iid", 2, 4, 16),
    ("iid", 4, 1, 8),
)
"""Where the default's single beam is not at the relaxation: channel, nodes, antennas, users."""
STARTS_4 = Effort(stages=(Stage(tolerance=0.0, starts=4, steps=100),))
STARTS_64 = Effort(stages=(Stage(tolerance=0.0, starts=64, steps=100),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer instances, no large references")
    parser.add_argument("--only", default="", help="comma-separated names of sections")
    options = parser.parse_args()
    path = Path(__file__).parent / "results" / "radio.json"
    results = json.loads(path.read_text()) if options.only and path.exists() else {}
    results["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}"
    sections = {
        "nominal": nominal,
        "limit": limit,
        "references": references,
        "throughput": throughput,
        "robust": robust,
        "robust_references": robust_references,
        "rank_limits": rank_limits,
        "schemes": schemes,
        "growth": growth,
        "calls": calls,
        "rivals": contest,
    }
    for name, section in sections.items():
        if not options.only or name in options.only.split(","):
            print(f"\n== {name}", flush=True)
            results[name] = section(quick=options.quick)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"\nwrote {path}")


def instances(kind: str, nodes: int, antennas: int, users: int, count: int, seed: int = 2026) -> np.ndarray:
    """Scaled CSI, (count, users, nodes, antennas)."""
    rng = np.random.default_rng([seed, nodes, antennas, users])
    if kind == "iid":
        return normalise(draw_iid(users, nodes, antennas, rng, (count,)), 1.0, 1.0).g
    config = RadioConfig(num_nodes=nodes, num_antennas=antennas, num_users=users)
    h = np.stack(
        [draw_channel(draw_deployment(config, rng), draw_users(config, rng), rng) for _ in range(count)]
    )
    return normalise(h, config.power_w, config.noise_w).g


def cpu_ms(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = call()
    return result, 1e3 * (time.process_time() - started)


def spread(values: np.ndarray) -> list[float]:
    """Median and worst."""
    return [round(float(np.median(values)), 5), round(float(values.min()), 5)]


def nominal(*, quick: bool) -> list[dict[str, Any]]:
    """Ratio of the SNR to the exact SDR value, and CPU time, at every size."""
    count, rows = (6 if quick else 20), []
    head = "         size        rank 1      rank 2      4 starts    / 64 starts   gap max |"
    print(head + " ms: certified, 4 starts, rank 2, exact")
    for kind in ("umi", "iid"):
        for nodes, antennas in SIZES:
            for users in USERS:
                g = instances(kind, nodes, antennas, users, count)
                many = np.tile(g, (max(1, 240 // count), 1, 1, 1))
                everyone = np.ones(g.shape[:2], dtype=bool)
                exact_bound(g[:1], everyone[:1])
                exact, exact_ms = cpu_ms(lambda g=g, everyone=everyone: exact_bound(g, everyone))
                one, one_ms = cpu_ms(lambda many=many: solve_broadcast(many, 1.0, 1.0))
                two, two_ms = cpu_ms(lambda many=many: solve_broadcast(many, 1.0, 1.0, rank=2))
                plain, plain_ms = cpu_ms(
                    lambda many=many: solve_broadcast(many, 1.0, 1.0, certify="none", effort=STARTS_4)
                )
                best64 = solve_broadcast(g, 1.0, 1.0, certify="none", effort=STARTS_64).min_snr
                row = {
                    "kind": kind,
                    "size": f"{nodes}x{antennas} K={users}",
                    "rank1": spread(one.min_snr[:count] / exact.upper),
                    "rank2": spread(two.min_snr[:count] / exact.upper),
                    "rank1_4_starts": spread(plain.min_snr[:count] / exact.upper),
                    "rank1_over_64_starts": spread(one.min_snr[:count] / best64),
                    "largest_gap": round(float(one.gap.max()), 5),
                    "bound_over_exact": round(float((one.upper_bound[:count] / exact.upper).max()), 5),
                    "certified_ms": one_ms / len(many),
                    "plain_ms": plain_ms / len(many),
                    "rank2_ms": two_ms / len(many),
                    "exact_ms": exact_ms / count,
                }
                rows.append(row)
                ratios = "  ".join(
                    "{:.4f}/{:.3f}".format(*row[key])
                    for key in ("rank1", "rank2", "rank1_4_starts", "rank1_over_64_starts")
                )
                times = "  ".join(
                    f"{row[k]:7.3f}" for k in ("certified_ms", "plain_ms", "rank2_ms", "exact_ms")
                )
                print(f"{kind} {row['size']:>10}  {ratios}  {row['largest_gap']:.4f} | {times}", flush=True)
    return rows


def limit(*, quick: bool) -> list[dict[str, Any]]:
    """The best single beam there is, by branch and bound, between the default's and the relaxation."""
    rows = []
    print("           size  default       optimum       proven        of the optimum | CPU s; boxes")
    for kind, nodes, antennas, users in LIMITS:
        g = instances(kind, nodes, antennas, users, 3 if quick else 20)
        ours = solve_broadcast(g, 1.0, 1.0).min_snr
        found = [cpu_ms(lambda row=row: global_beam(row, max_boxes=1500)) for row in g]
        relaxed = np.array([best.relaxation for best, _ in found])
        value = np.maximum(np.array([best.value for best, _ in found]), ours)
        upper = np.array([best.upper for best, _ in found])
        row = {
            "kind": kind,
            "size": f"{nodes}x{antennas} K={users}",
            "default": spread(ours / relaxed),
            "optimum": spread(value / relaxed),
            "proven": spread(upper / relaxed),
            "default_of_optimum": spread(ours / value),
            "largest_gap": float((1 - value / upper).max()),
            "cpu_s": [
                round(1e-3 * float(np.median([ms for _, ms in found])), 3),
                round(1e-3 * max(ms for _, ms in found), 3),
            ],
            "boxes": max(best.num_boxes for best, _ in found),
        }
        rows.append(row)
        ratios = "  ".join(
            "{:.4f}/{:.3f}".format(*row[key])
            for key in ("default", "optimum", "proven", "default_of_optimum")
        )
        print(f"{kind} {row['size']:>10}  {ratios} | {row['cpu_s']} {row['boxes']}", flush=True)
    return rows


def references(*, quick: bool) -> list[dict[str, Any]]:
    """cvxpy on the same UMi instances: time, value, and the beams that textbooks make from it."""
    rows = []
    print("size: Clarabel ms, SCS ms (its error); our ms certified, exact; speed-ups; exact agrees to")
    for nodes, antennas in ((2, 4), (4, 4)) if quick else ((2, 4), (4, 4), (4, 8)):
        for users in (4, 16) if quick else USERS:
            count = 2 if nodes * antennas > 16 else 4
            g = instances("umi", nodes, antennas, users, 20)
            many = np.tile(g, (12, 1, 1, 1))
            everyone = np.ones(many.shape[:2], dtype=bool)
            solve_relaxation(g[0, :, :, :1])
            found = [cpu_ms(lambda row=row: solve_relaxation(row)) for row in g[:count]]
            scs, scs_ms = (
                cpu_ms(lambda g=g: solve_relaxation(g[0], "SCS")) if nodes * antennas <= 16 else (None, None)
            )
            exact, exact_ms = cpu_ms(lambda many=many, mask=everyone: exact_bound(many, mask))
            _, our_ms = cpu_ms(lambda many=many: solve_broadcast(many, 1.0, 1.0))
            _, plain_ms = cpu_ms(
                lambda many=many: solve_broadcast(many, 1.0, 1.0, certify="none", effort=STARTS_4)
            )
            values = np.array([relaxed.value for relaxed, _ in found])
            clarabel_ms = float(np.median([ms for _, ms in found]))
            row = {
                "size": f"{nodes}x{antennas} K={users}",
                "clarabel_ms": clarabel_ms,
                "clarabel_status": [relaxed.status for relaxed, _ in found],
                "scs_ms": scs_ms,
                "scs_error": None if scs is None else float(abs(scs.value / values[0] - 1)),
                "certified_ms": our_ms / len(many),
                "exact_ms": exact_ms / len(many),
                "certified_speedup": clarabel_ms * len(many) / our_ms,
                "plain_speedup": clarabel_ms * len(many) / plain_ms,
                "exact_speedup": clarabel_ms * len(many) / exact_ms,
                "exact_difference": float(np.abs(exact.upper[:count] / values - 1).max()),
                "textbook": _textbook(g[0], found[0][0].covariance, values[0], cones=users <= 16),
            }
            rows.append(row)
            scs_note = "-" if scs is None else f"{scs_ms:.1f} ({row['scs_error']:.1e})"
            print(
                f"{row['size']:>10}: {clarabel_ms:8.1f} {scs_note}; "
                f"{row['certified_ms']:.3f} {row['exact_ms']:.3f}; "
                f"certified {row['certified_speedup']:.0f}x, "
                f"4 starts {row['plain_speedup']:.0f}x, exact {row['exact_speedup']:.0f}x, "
                f"{row['exact_difference']:.1e}; {row['textbook']}",
                flush=True,
            )
    return rows


def _textbook(g: np.ndarray, covariance: np.ndarray, value: float, *, cones: bool) -> dict[str, float]:
    """SNR / bound of Gaussian randomisation and of SCA started there."""
    flat = g.reshape(len(g), -1)
    rng = np.random.default_rng(0)
    beam = gaussian_randomisation(g, covariance, 1, 200, rng)
    found = {"randomisation": round(float(min_power(flat, beam.reshape(-1, 1)) / value), 4)}
    if cones:
        after, ms = cpu_ms(lambda: successive_cones(g, beam[..., 0]))
        found["sca"] = round(float(min_power(flat, after.reshape(-1, 1)) / value), 4)
        found["sca_ms"] = round(ms)
    return found


def throughput(*, quick: bool) -> dict[str, float]:
    """Certified solves of 4x4, K = 16, distinct UMi instances."""
    count = 400 if quick else 2000
    g = instances("umi", 4, 4, 16, count)
    result, one_ms = cpu_ms(lambda: solve_broadcast(g, 1.0, 1.0))
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: solve_broadcast(part, 1.0, 1.0), (g[::2], g[1::2])))
    wall = time.perf_counter() - started
    found = {
        "instances": count,
        "median_gap": float(np.median(result.gap)),
        "largest_gap": float(result.gap.max()),
        "cpu_ms_per_certified_solve": one_ms / count,
        "per_cpu_minute": 60_000 * count / one_ms,
        "two_threads_per_wall_minute": 60 * count / wall,
        "load_average": os.getloadavg()[0],
    }
    for name, value in found.items():
        print(f"{name:>28}: {value:,.4f}")
    return found


def robust(*, quick: bool) -> list[dict[str, Any]]:
    """Guarantee at 10 % CSI error over the bound for any rank, and for one beam over its own bound."""
    count, rows = (4 if quick else 20), []
    print(
        "                 size   1 / own bound  1 / bound      own / bound    2 / bound      full / bound",
        end="",
    )
    print("   error ignored  | ms: rank 1, rank 2")
    for kind, ball in (("umi", "joint"), ("umi", "link"), ("iid", "joint")):
        for nodes, antennas in SIZES[:3] if quick else SIZES:
            for users in (4, 8) if quick else (4, 8, 16):
                g = instances(kind, nodes, antennas, users, count)
                error = csi_radius(g, ball)
                one, one_ms = cpu_ms(lambda g=g, e=error: solve_broadcast(g, 1.0, 1.0, csi_error=e))
                two, two_ms = cpu_ms(lambda g=g, e=error: solve_broadcast(g, 1.0, 1.0, csi_error=e, rank=2))
                full = solve_broadcast(g, 1.0, 1.0, csi_error=error, rank="full", certify="exact")
                plain = solve_broadcast(g, 1.0, 1.0)
                ignored = worst_case(g, plain.w, error, np.ones((count, nodes))).amplitude.min(axis=1) ** 2
                bound = np.minimum(two.upper_bound, full.upper_bound)
                row = {
                    "kind": kind,
                    "ball": ball,
                    "size": f"{nodes}x{antennas} K={users}",
                    "rank1_own": spread(one.worst_snr / one.upper_bound),
                    "rank1": spread(one.worst_snr / bound),
                    "rank1_limit": spread(np.minimum(one.upper_bound / bound, 1.0)),
                    "rank2": spread(two.worst_snr / bound),
                    "full": spread(full.worst_snr / bound),
                    "error_ignored": spread(ignored / bound),
                    "rank1_ms": one_ms / count,
                    "rank2_ms": two_ms / count,
                }
                rows.append(row)
                names = ("rank1_own", "rank1", "rank1_limit", "rank2", "full", "error_ignored")
                ratios = "  ".join("{:.4f}/{:.4f}".format(*row[key]) for key in names)
                print(
                    f"{kind} {ball:>5} {row['size']:>10}  {ratios} | "
                    f"{row['rank1_ms']:.1f} {row['rank2_ms']:.1f}",
                    flush=True,
                )
    return rows


def csi_radius(g: np.ndarray, ball: str) -> np.ndarray:
    """Radius of a CSI error of 10 %."""
    return 0.1 * np.linalg.norm(g, axis=(2, 3) if ball == "joint" else 3)


def rank_limits(*, quick: bool) -> list[dict[str, Any]]:
    """The rows furthest from their bound, tried again by another method and with many more starts.

    Each row is solved by sequential quadratic programming from random beams, through smaller errors first,
    and by 64 times the fixed point's first starts. What they reach over what the default reaches.
    """
    rows = []
    runs = 3 if quick else 10
    cases = [("joint", 2, 0.985), ("joint", 1, 0.99), ("link", 1, 0.99)]
    for (ball, rank, below), size in product(cases, ((2, 4, 8), (4, 4, 8), (4, 8, 4), (4, 8, 8), (8, 8, 8))):
        g = instances("umi", *size, 20)
        error, root = csi_radius(g, ball), np.ones(size[0])
        ours = solve_broadcast(g, 1.0, 1.0, csi_error=error, rank=rank)
        for index in np.flatnonzero(1.0 - ours.gap < below)[: 1 if quick else 20]:
            many = np.repeat(g[index, None], 64, axis=0), np.repeat(error[index, None], 64, axis=0)
            starts = solve_broadcast(many[0], 1.0, 1.0, csi_error=many[1], rank=rank, certify="none")
            rng, found = np.random.default_rng(0), []
            for _ in range(runs):
                v = rng.standard_normal((*size[:2], rank)) + 1j * rng.standard_normal((*size[:2], rank))
                for share in (0.1, 0.5, 1.0):
                    v = sequential_quadratic(g[index], v, share * error[index], root)
                found.append(
                    worst_case(g[index, None], v[None], error[index, None], root[None]).amplitude.min() ** 2
                )
            row = {
                "size": "{}x{} K={}".format(*size),
                "ball": ball,
                "rank": rank,
                "ours_over_bound": float(1.0 - ours.gap[index]),
                "best_of_256_starts": float(starts.worst_snr.max() / ours.worst_snr[index]),
                "best_of_quadratic": float(max(found) / ours.worst_snr[index]),
                "quadratic_runs_within_0.1_percent": int(
                    (np.array(found) > 0.999 * ours.worst_snr[index]).sum()
                ),
                "quadratic_runs": runs,
            }
            rows.append(row)
            print(" ".join(f"{v:.5f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    return rows


def robust_references(*, quick: bool) -> list[dict[str, Any]]:
    """S-procedure SDP, difference of convex functions and SCA on the same instances."""
    rows = []
    sizes = ((2, 4, 4, 2),) if quick else ((2, 4, 4, 4), (2, 4, 8, 3), (2, 4, 16, 2), (4, 2, 6, 3))
    for nodes, antennas, users, count in sizes:
        g = instances("umi", nodes, antennas, users, count, seed=7)
        for ball in ("joint", "link"):
            error = csi_radius(g, ball)
            ours, our_ms = cpu_ms(lambda g=g, e=error: solve_broadcast(g, 1.0, 1.0, csi_error=e))
            full, full_ms = cpu_ms(
                lambda g=g, e=error: solve_broadcast(g, 1.0, 1.0, csi_error=e, rank="full", certify="exact")
            )
            for index in range(count):
                given = (g[index], error[index], np.ones(nodes))
                sdp, sdp_ms = cpu_ms(lambda given=given: solve_robust_relaxation(*given))
                tried = [
                    cpu_ms(lambda given=given, w=w: difference_of_convex(*given, num_rounds=12, weight=w))
                    for w in ((0.5,) if quick else (0.5, 2.0))
                ]
                dc, dc_ms = max(tried, key=lambda found: found[0].guaranteed)
                after = successive_cones(g[index], ours.w[index, ..., 0], error[index], np.ones(nodes))
                cones = worst_case(
                    g[index, None], after[None, ..., None], error[index, None], np.ones((1, nodes))
                )
                row = {
                    "size": f"{nodes}x{antennas} K={users}",
                    "ball": ball,
                    "ours": float(ours.worst_snr[index]),
                    "our_bound": float(ours.upper_bound[index]),
                    "our_full_bound": float(full.upper_bound[index]),
                    "sdp_bound": sdp.value,
                    "sdp_status": sdp.status,
                    "dc": dc.guaranteed,
                    "sca_after_ours": float(cones.amplitude.min() ** 2),
                    "our_ms": our_ms / count,
                    "our_full_ms": full_ms / count,
                    "sdp_ms": sdp_ms,
                    "dc_ms": dc_ms,
                }
                rows.append(row)
                print(
                    f"{row['size']:>10} {ball:>5}: ours {row['ours']:.5f} "
                    f"(SCA after {row['sca_after_ours']:.5f}), DC {dc.guaranteed:.5f}; "
                    f"bound {row['our_bound']:.5f}, any rank {row['our_full_bound']:.5f}, "
                    f"SDP {sdp.value:.5f} ({sdp.status}); "
                    f"ms {row['our_ms']:.1f} {row['our_full_ms']:.1f} {sdp_ms:.0f} {dc_ms:.0f}",
                    flush=True,
                )
    return rows


def schemes(*, quick: bool) -> dict[str, Any]:
    """Delay of simple schemes over ours in the default scenario; groups and subbands."""
    count, ratios, gains, groups = (5 if quick else 30), {name: [] for name in BASELINES}, [], []
    config = RadioConfig()
    bands = RadioConfig(num_subbands=8)
    for seed in range(count):
        rng = np.random.default_rng([1, seed])
        deployment, users = draw_deployment(config, rng), draw_users(config, rng)
        h = draw_channel(deployment, users, rng)
        rate = float(solve_broadcast(h, config.power_w, config.noise_w).rate_bit_s_hz)
        for name in BASELINES:
            ratios[name].append(rate / solve_baseline(name, h, config.power_w, config.noise_w).rate_bit_s_hz)
        plan = plan_groups(h, config.power_w, config.noise_w, objective="mean-delay")
        groups.append(plan.mean_delay_s_hz_bit / plan.single_s_hz_bit)
        wide = draw_channel(draw_deployment(bands, rng), users, rng)
        joint = solve_subbands(wide, config.power_w, config.noise_w)
        gains.append(
            [joint.rate_bit_s_hz / joint.separate_rate_bit_s_hz, joint.rate_bit_s_hz / joint.upper_bound]
        )
    found: dict[str, Any] = {
        f"delay of {name} / ours": [round(float(v), 2) for v in np.percentile(ratios[name], [0, 50, 100])]
        for name in BASELINES
    }
    found["mean delay with groups / one group"] = [
        round(float(v), 3) for v in np.percentile(groups, [0, 50, 100])
    ]
    found["subbands: joint / separate rate"] = [
        round(float(v), 3) for v in np.percentile(np.array(gains)[:, 0], [0, 50, 100])
    ]
    found["subbands: joint rate / bound"] = [
        round(float(v), 3) for v in np.percentile(np.array(gains)[:, 1], [0, 50, 100])
    ]
    for name, values in found.items():
        print(f"{name:>40}: least, median, most {values}")
    return found


def growth(*, quick: bool) -> dict[str, Any]:
    """CPU time and memory of one certified solve as nodes, antennas and users grow."""
    most = 16 if quick else 64
    sweeps = {
        "nodes": [(n, 8, 32) for n in (4, 8, 16, 32, 64) if n <= most],
        "antennas": [(8, m, 32) for m in (2, 4, 8, 16, 32)],
        "users": [(8, 8, k) for k in (8, 32, 64, 128, 256) if k <= 4 * most],
        "all": [s for s in ((4, 2, 16), (8, 4, 32), (16, 4, 64), (32, 8, 128), (64, 8, 256)) if s[0] <= most],
    }
    found: dict[str, Any] = {}
    for name, sizes in sweeps.items():
        points = []
        for size in sizes:
            g = instances("umi", *size[:2], size[2], 2)
            tracemalloc.start()
            result, ms = cpu_ms(lambda g=g: solve_broadcast(g, 1.0, 1.0))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            points.append([*size, ms / 2, peak / 2e6, float(result.gap.max())])
            print(
                f"{name:>9} {size}: {ms / 2:9.1f} ms, {peak / 2e6:7.2f} MB a row, gap {points[-1][5]:.4f}",
                flush=True,
            )
        axis = np.array(
            [p[0] * p[1] * p[2] if name == "all" else p[sweeps_axis(name)] for p in points], float
        )
        slope = np.polyfit(np.log(axis), np.log([p[3] for p in points]), 1)[0]
        memory = np.polyfit(np.log(axis), np.log([p[4] for p in points]), 1)[0]
        found[name] = {"points": points, "time_exponent": slope, "memory_exponent": memory}
        print(f"{name:>9}: time ~ size^{slope:.2f}, memory ~ size^{memory:.2f}")
    return found


def sweeps_axis(name: str) -> int:
    return {"nodes": 0, "antennas": 1, "users": 2}[name]


if __name__ == "__main__":
    main()
