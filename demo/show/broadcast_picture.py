"""The picture of `pbcast radio`: where the beam reaches, and the SNR of each user."""

from pathlib import Path
from typing import Any

import numpy as np

from demo.jobs.broadcast import Comparison, Scenario
from demo.show.figure import (
    BLUE,
    FAINT,
    GREY,
    LINE,
    ORANGE,
    RED,
    clean_axes,
    font_pt,
    pyplot,
    save_figure,
    width_in,
)
from radio.channel import Deployment, array_response, distances, large_scale
from radio.types import ComplexArray, FloatArray

__all__ = ["coverage_db", "draw_broadcast"]

_PIXELS = 110
"""Places along each side of the map."""
_SHOWN = ("unicast-tdma", "best-node", "isotropic")
_COLOURS = {"ours": BLUE, "best-node": ORANGE, "isotropic": GREY, "matched": FAINT}


def coverage_db(deployment: Deployment, beam: ComplexArray, noise_w: float, points: FloatArray) -> FloatArray:
    """Mean SNR that the beam gives at each place, over the scattered waves: (..., 2) in m -> (...), dB.

    E|h w|^2 = |direct w|^2 + sum_n gain_n / (K_n + 1) ||w_n||^2, the scattered waves taken as from all sides.
    """
    config = deployment.config
    flat = points.reshape(-1, 2)
    slow = large_scale(deployment, flat)
    _, space = distances(config, flat, deployment.nodes_xy)
    phase = np.exp(-2j * np.pi * space / config.wavelength_m)
    direct = np.sqrt(slow.gain * slow.k_factor / (slow.k_factor + 1.0)) * phase
    direct = direct[..., None] * array_response(config, flat, deployment.nodes_xy)
    coherent = np.abs(np.einsum("kna,na->k", direct, beam)) ** 2
    scattered = (slow.gain / (slow.k_factor + 1.0)) @ (np.abs(beam) ** 2).sum(axis=1)
    return np.asarray(10.0 * np.log10((coherent + scattered) / noise_w)).reshape(points.shape[:-1])


def draw_broadcast(scenario: Scenario, result: Comparison, path: Path) -> None:
    """Draw the map, where positions are known, beside the SNR of each user.

    Args:
        scenario: The broadcast.
        result: Its solvers.
        path: File to write; its ending says the format.
    """
    plt, size = pyplot(), font_pt(path)
    with plt.rc_context({"font.size": size, "axes.titlesize": size + 0.5}):
        _draw(scenario, result, path)


def _draw(scenario: Scenario, result: Comparison, path: Path) -> None:
    columns = 1 if scenario.deployment is None else 2
    wide = width_in(path, columns)
    high = max(0.52 * wide, 1.2 + 0.02 * wide * len(result.users))
    figure, panels = pyplot().subplots(1, columns, figsize=(wide, high), layout="constrained", squeeze=False)
    if columns == 2:
        _draw_map(figure, panels[0, 0], scenario, result)
    _draw_users(panels[0, -1], result)
    save_figure(figure, path, user_rows(result))


def user_rows(result: Comparison) -> list[dict[str, object]]:
    """SNR of each user with each solver that gives one, dB."""
    rows: list[dict[str, object]] = []
    for place, user in enumerate(result.users):
        snr: dict[str, object] = {f"{row.name}_db": row.snr_db[place] for row in result.rows if row.snr_db}
        rows.append({"user": user, "matched_db": result.matched_db[place], **snr})
    return rows


def _draw_map(figure: Any, axes: Any, scenario: Scenario, result: Comparison) -> None:  # noqa: ANN401 - matplotlib
    if scenario.deployment is None or scenario.users_xy is None or scenario.nodes_xy is None:
        return
    side = scenario.config.area_m
    ticks = (np.arange(_PIXELS) + 0.5) * side / _PIXELS
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    snr = coverage_db(scenario.deployment, result.beam, float(scenario.noise_w[0]), points)
    low, high = np.percentile(snr, [2, 99.5])
    image = axes.imshow(
        snr,
        origin="lower",
        extent=(0, side, 0, side),
        cmap="viridis",
        vmin=low,
        vmax=high,
        interpolation="bilinear",
    )
    figure.colorbar(image, ax=axes, label="mean SNR at this place, dB", shrink=0.85, pad=0.02)
    for holds, marker_face, label in ((True, ORANGE, "node, sends"), (False, "white", "node, silent")):
        nodes = scenario.nodes_xy[scenario.holders == holds]
        if len(nodes):
            axes.scatter(
                *nodes.T, marker="^", s=130, c=marker_face, edgecolors="black", label=label, zorder=3
            )
    axes.scatter(
        *scenario.users_xy[scenario.waiting].T, s=34, c="white", edgecolors="black", label="user", zorder=3
    )
    for user in result.users:
        axes.annotate(
            str(user),
            scenario.users_xy[user],
            textcoords="offset points",
            xytext=(5, 4),
            color="white",
            path_effects=_outline(),
        )
    axes.set(xlim=(0, side), ylim=(0, side), xlabel="x, m", ylabel="y, m")
    axes.set_title("Where the beam reaches")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)


def _outline() -> list[Any]:
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=2, foreground="black")]


def _draw_users(axes: Any, result: Comparison) -> None:  # noqa: ANN401 - matplotlib
    """A dot a user and scheme; users from the weakest to the strongest."""
    ours = result.rows[0]
    order = np.argsort(result.matched_db)
    places = np.arange(len(order))
    rows = {row.name: row for row in result.rows}
    matched = np.array(result.matched_db)[order]
    shown = {"ours": np.array(ours.snr_db)[order]}
    shown |= {name: np.array(rows[name].snr_db)[order] for name in _SHOWN[1:] if rows[name].snr_db}
    floor = min(float(values[np.isfinite(values)].min(initial=0.0)) for values in [*shown.values(), matched])
    axes.hlines(places, floor - 3, matched, color=LINE, linewidth=1, zorder=1)
    axes.scatter(
        matched, places, marker="|", s=110, color=_COLOURS["matched"], label="served alone (bound)", zorder=2
    )
    for name, values in shown.items():
        label = ours.name if name == "ours" else name
        marker, size = ("o", 46) if name == "ours" else ("D", 22)
        axes.scatter(values, places, marker=marker, s=size, color=_COLOURS[name], label=label, zorder=3)
    what = "weakest" if ours.guaranteed_db is None else "guarantee"
    axes.axvline(result.upper_bound_db, color=RED, linestyle="--", linewidth=1.4, zorder=2)
    axes.annotate(
        f"bound on the {what}\n{result.upper_bound_db:.1f} dB",
        (result.upper_bound_db, len(places) - 0.4),
        textcoords="offset points",
        xytext=(5, 0),
        va="top",
        color=RED,
    )
    if ours.guaranteed_db is not None and np.isfinite(ours.guaranteed_db):
        axes.axvline(ours.guaranteed_db, color=BLUE, linestyle=":", linewidth=1.4, label="guaranteed")
    axes.set_yticks(places, [f"user {result.users[i]}" for i in order])
    axes.set_ylim(-0.7, len(places) - 0.1)
    axes.set_xlabel("SNR, dB")
    airtime = f"{ours.airtime_s:.2f} s" if np.isfinite(ours.airtime_s) else "never"
    axes.set_title(f"SNR of each user; all are served after {airtime}")
    clean_axes(axes, "x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4)
