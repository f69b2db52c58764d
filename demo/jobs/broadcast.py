"""The scenario of `pbcast radio`, and every solver on it."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demo.jobs.broadcast_file import Settings, check_size, chosen, number, places, radio_config, read_settings
from demo.jobs.broadcast_sdp import announce, solve_sdp
from radio import (
    BASELINES,
    BroadcastResult,
    RadioConfig,
    airtime_s,
    draw_channel,
    draw_deployment,
    draw_users,
    load_channel,
    plan_groups,
    single_user_snr,
    solve_baseline,
    solve_broadcast,
)
from radio.channel import Deployment
from radio.types import BoolArray, ComplexArray, FloatArray

__all__ = ["Comparison", "Row", "Scenario", "compare", "load_scenario"]

_LARGEST_GLOBAL = 32
"""Antennas that send, and users that wait, up to which branch and bound takes less than a minute."""
_BEST = "best beam"
_IMAGE_MODEL_BYTES = 138_000_000
"""The image model of TS 22.261 table 7.10.1-2, to be delivered in one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One broadcast to solve."""

    config: RadioConfig
    h: ComplexArray
    """CSI, (users, nodes, antennas)."""
    power_w: FloatArray
    noise_w: FloatArray
    holders: BoolArray
    waiting: BoolArray
    size_bytes: float
    csi_error: FloatArray | None
    """Joint radius, (users,), in units of h."""
    users_xy: FloatArray | None
    nodes_xy: FloatArray | None
    deployment: Deployment | None
    """None when the channel came from a file: there is no area to draw then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One solver."""

    name: str
    rate_bit_s_hz: float
    airtime_s: float
    snr_db: list[float]
    """SNR of each waiting user, dB; for robust beams the nominal one."""
    guaranteed_db: float | None
    """Guaranteed SNR of the weakest user under CSI error."""
    gap: float | None
    """Proven distance to the bound, 0 is optimal."""
    status: str
    cpu_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every solver on one broadcast."""

    rows: tuple[Row, ...]
    upper_bound_db: float
    """No beamformer gives the weakest user a higher SNR (guaranteed SNR under CSI error)."""
    beam_bound_db: float | None
    """No single beam gives the weakest user a higher SNR; None unless the global solver ran."""
    matched_db: list[float]
    """SNR of each waiting user if it were served alone."""
    users: list[int]
    """Waiting users, as the lists count them."""
    dropped: list[int]
    """Waiting users who hear no node that sends: the beams are for the others."""
    beam: ComplexArray
    """w of the first row, (nodes, antennas)."""
    seed: int

    def document(self) -> dict[str, Any]:
        """As JSON; infinities become null."""
        rows = [{field: _plain(getattr(row, field)) for field in Row.__slots__} for row in self.rows]
        return {
            "seed": self.seed,
            "users": self.users,
            "dropped": self.dropped,
            "upper_bound_db": _plain(self.upper_bound_db),
            "beam_bound_db": _plain(self.beam_bound_db),
            "matched_filter_db": _plain(self.matched_db),
            "solvers": rows,
        }


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_scenario(path: Path | None, channel: Path | None, seed: int, csi_error: float) -> Scenario:
    """Read the scenario file and draw, or read, its channel.

    Args:
        path: TOML file or None for the default scenario.
        channel: Channel file or None to draw one.
        seed: Seed of the draw.
        csi_error: Share of each channel's norm, if the file does not say.

    Returns:
        The scenario.

    Raises:
        ValueError: If the file asks for something that does not exist.
    """
    settings = read_settings(path) if path is not None else {}
    share = number(settings, "csi_error", csi_error)
    if channel is not None:
        return _from_file(channel, settings, share)
    users, nodes = places(settings, "users_xy"), places(settings, "nodes_xy")
    counts = {"num_users": users, "num_nodes": nodes}
    config = radio_config(settings, {key: len(xy) for key, xy in counts.items() if xy is not None})
    check_size(config)
    rng = np.random.default_rng(seed)
    deployment = draw_deployment(config, rng, nodes)
    users_xy = draw_users(config, rng) if users is None else users
    h = draw_channel(deployment, users_xy, rng)
    if h.ndim == 4:
        raise ValueError("pbcast radio draws flat channels: num_subbands must be 1")
    return Scenario(
        config=config,
        h=h,
        power_w=np.full(config.num_nodes, config.power_w),
        noise_w=np.full(len(users_xy), config.noise_w),
        holders=chosen(settings, "holders", config.num_nodes),
        waiting=chosen(settings, "waiting", len(users_xy)),
        size_bytes=number(settings, "size_bytes", _IMAGE_MODEL_BYTES),
        csi_error=_radius(h, chosen(settings, "holders", config.num_nodes), share),
        users_xy=users_xy,
        nodes_xy=deployment.nodes_xy,
        deployment=deployment,
    )


def _from_file(path: Path, settings: Settings, share: float) -> Scenario:
    loaded = load_channel(path)
    if loaded.h.ndim != 3:
        raise ValueError(f"{path}: h must be (users, nodes, antennas) here, got {loaded.h.shape}")
    users, nodes, antennas = loaded.h.shape
    shape = {"num_users": users, "num_nodes": nodes, "num_antennas": antennas, "num_subbands": 1}
    config = radio_config(settings, shape)
    check_size(config)
    power = config.power_w if loaded.power_w is None else loaded.power_w
    noise = config.noise_w if loaded.noise_w is None else loaded.noise_w
    error = (
        loaded.csi_error
        if loaded.csi_error is not None
        else _radius(loaded.h, chosen(settings, "holders", nodes), share)
    )
    return Scenario(
        config=config,
        h=loaded.h,
        power_w=np.broadcast_to(np.asarray(power, np.float64), (nodes,)),
        noise_w=np.broadcast_to(np.asarray(noise, np.float64), (users,)),
        holders=chosen(settings, "holders", nodes),
        waiting=chosen(settings, "waiting", users),
        size_bytes=number(settings, "size_bytes", _IMAGE_MODEL_BYTES),
        csi_error=error,
        users_xy=loaded.users_xy,
        nodes_xy=loaded.nodes_xy,
        deployment=None,
    )


def _radius(h: ComplexArray, holders: BoolArray, share: float) -> FloatArray | None:
    """Joint radius as a share of the norm of each user's channel to the holders."""
    return share * np.linalg.norm(h[:, holders], axis=(1, 2)) if share > 0 else None


def compare(scenario: Scenario, seed: int, *, sdp: bool, best: bool = False) -> Comparison:
    """Run every solver and baseline.

    Args:
        scenario: The broadcast.
        seed: Seed of the random starts.
        sdp: Whether to run cvxpy too.
        best: Whether to find the best single beam too.

    Returns:
        One row a solver, ours first.

    Raises:
        ValueError: If the best beam is asked for where branch and bound is not for it.
    """
    if best:
        _check_global(scenario)
    if sdp:
        antennas = int(scenario.holders.sum()) * scenario.h.shape[2]
        announce(int(scenario.waiting.sum()), antennas, robust=scenario.csi_error is not None)
    problem = (scenario.h, scenario.power_w, scenario.noise_w, scenario.holders, scenario.waiting)
    solve_broadcast(*problem, certify="none")  # warms up the linear algebra: times below are of the solver
    results: dict[str, tuple[BroadcastResult, float]] = {}
    for name, options in _solvers(scenario, sdp=sdp, best=best).items():
        if options.get("solver") == "sdp":
            results[name] = solve_sdp(problem, options, seed)
            continue
        started = time.process_time()
        result = solve_broadcast(*problem, rng=np.random.default_rng(seed), **options)
        results[name] = (result, 1e3 * (time.process_time() - started))
    rows = [_solver_row(name, *solved, scenario) for name, solved in results.items()]
    rows.append(_group_row(scenario))
    rows += [_baseline_row(name, scenario) for name in BASELINES]
    first = next(iter(results.values()))[0]
    # With CSI error, or from the global solver, the bound of one column holds for one column only.
    plain = scenario.csi_error is None
    bound = min(
        float(result.upper_bound)
        for name, (result, _) in results.items()
        if name != _BEST and (plain or (result.w.shape[-1] > 1 and "ignored" not in name))
    )
    matched = single_user_snr(scenario.h * scenario.holders[:, None], scenario.power_w, scenario.noise_w)
    return Comparison(
        rows=tuple(rows),
        upper_bound_db=_db(bound),
        beam_bound_db=_db(float(results[_BEST][0].upper_bound)) if best else None,
        matched_db=[_db(float(snr)) for snr in matched[scenario.waiting]],
        users=[int(user) for user in np.flatnonzero(scenario.waiting)],
        dropped=[int(user) for user in np.flatnonzero(first.dropped)],
        beam=first.w[..., 0],
        seed=seed,
    )


def _check_global(scenario: Scenario) -> None:
    antennas, users = int(scenario.holders.sum()) * scenario.h.shape[2], int(scenario.waiting.sum())
    if scenario.csi_error is not None:
        raise ValueError("--global finds the best beam for known channels: leave out the CSI error")
    if max(antennas, users) > _LARGEST_GLOBAL:
        raise ValueError(
            f"--global takes at most {_LARGEST_GLOBAL} antennas that send and {_LARGEST_GLOBAL} users that "
            f"wait, got {antennas} and {users}"
        )


def _solvers(scenario: Scenario, *, sdp: bool, best: bool) -> dict[str, dict[str, Any]]:
    robust = {"csi_error": scenario.csi_error}
    label = "robust " if scenario.csi_error is not None else ""
    results: dict[str, dict[str, Any]] = {
        f"{label}beam": robust,
        f"{label}rank 2": {**robust, "rank": 2},
        f"{label}full rank": {**robust, "rank": "full"},
    }
    if scenario.csi_error is not None:
        results["beam, error ignored"] = {}
    if best:
        results[_BEST] = {"solver": "global"}
    if sdp:
        results[f"{label}SDP + randomisation"] = {**robust, "solver": "sdp"}
    return results


def _db(ratio: float) -> float:
    return 10.0 * math.log10(ratio) if ratio > 0 else -math.inf


def _solver_row(name: str, result: BroadcastResult, cpu_ms: float, scenario: Scenario) -> Row:
    guaranteed, status = None, str(result.status)
    rate = float(result.rate_bit_s_hz)
    if scenario.csi_error is not None:
        worst = float(result.worst_snr)
        if name == "beam, error ignored":
            worst = _worst_of(result, scenario)
            rate, status = math.log2(1.0 + worst), "ok" if worst > 0 else "outage"
        guaranteed = _db(worst)
    return Row(
        name=name,
        rate_bit_s_hz=rate,
        airtime_s=float(airtime_s(scenario.size_bytes, scenario.config.bandwidth_hz, 2.0**rate - 1.0)),
        snr_db=[_db(float(snr)) for snr in result.snr[scenario.waiting]],
        guaranteed_db=guaranteed,
        gap=None if name == "beam, error ignored" else float(result.gap),
        status=status,
        cpu_ms=cpu_ms,
    )


def _worst_of(result: BroadcastResult, scenario: Scenario) -> float:
    """What a beam that ignores the error guarantees."""
    from radio.fast.worst_case import worst_case

    root = np.ones((1, scenario.h.shape[1]))
    error = np.asarray(scenario.csi_error)
    amplitude = worst_case(scenario.h[None], result.w[None], error[None], root).amplitude[0]
    return float((amplitude**2 / scenario.noise_w)[scenario.waiting].min())


def _group_row(scenario: Scenario) -> Row:
    started = time.process_time()
    plan = plan_groups(
        scenario.h,
        scenario.power_w,
        scenario.noise_w,
        scenario.holders,
        scenario.waiting,
        objective="mean-delay",
        csi_error=scenario.csi_error,
        certify="eig" if scenario.csi_error is None else "none",
    )
    hertz = scenario.config.bandwidth_hz
    rate = 1.0 / plan.time_s_hz_bit if plan.time_s_hz_bit > 0 else math.inf
    left_out = f" without {', '.join(map(str, plan.dropped))}" if plan.dropped else ""
    return Row(
        name=f"{len(plan.groups)} group{'s' if len(plan.groups) != 1 else ''}{left_out}, mean delay",
        rate_bit_s_hz=rate,
        airtime_s=8.0 * scenario.size_bytes * plan.mean_delay_s_hz_bit / hertz,
        snr_db=[],
        guaranteed_db=None,
        gap=None,
        status="mean delay",
        cpu_ms=1e3 * (time.process_time() - started),
    )


def _baseline_row(name: str, scenario: Scenario) -> Row:
    started = time.process_time()
    problem = (scenario.h, scenario.power_w, scenario.noise_w, scenario.holders, scenario.waiting)
    baseline = solve_baseline(name, *problem)
    rate = baseline.rate_bit_s_hz
    seconds = airtime_s(scenario.size_bytes, scenario.config.bandwidth_hz, 2.0**rate - 1.0)
    return Row(
        name=name,
        rate_bit_s_hz=rate,
        airtime_s=float(seconds),
        snr_db=[_db(float(snr)) for snr in baseline.snr[scenario.waiting]],
        guaranteed_db=None,
        gap=None,
        status="baseline",
        cpu_ms=1e3 * (time.process_time() - started),
    )
