"""The table that `pbcast radio` prints."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.cli.radio_scenario import Comparison, Scenario

__all__ = ["print_comparison"]


def print_comparison(scenario: Scenario, result: Comparison, out: Path | None) -> None:
    """Print one line a solver, and where the files went."""
    users, nodes, antennas = scenario.h.shape
    head = (
        f"{int(scenario.holders.sum())} of {nodes} nodes x {antennas} antennas send "
        f"{scenario.size_bytes / 1e6:.0f} MB to {len(result.users)} of {users} users over "
        f"{scenario.config.bandwidth_hz / 1e6:g} MHz"
    )
    robust = scenario.csi_error is not None
    table = Table(title=head, title_justify="left", box=None, header_style="bold")
    table.add_column("scheme", overflow="fold")
    columns = (
        "min dB",
        *(("sure dB",) if robust else ()),
        "bit/s/Hz",
        "time s",
        "gap %",
        "CPU ms",
    )
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        weakest = f"{min(row.snr_db):.2f}" if row.snr_db else ""
        guaranteed = ("" if row.guaranteed_db is None else f"{row.guaranteed_db:.2f}",) if robust else ()
        gap = "" if row.gap is None else f"{100 * row.gap:.3f}"
        note = row.status if row.status not in ("ok", "baseline") else ""
        name = f"{row.name} ({note})" if note and note not in row.name else row.name
        seconds = "never" if math.isinf(row.airtime_s) else f"{row.airtime_s:.3f}"
        cells = (weakest, *guaranteed, f"{row.rate_bit_s_hz:.2f}", seconds, gap, f"{row.cpu_ms:.1f}")
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    if math.isfinite(result.upper_bound_db):  # someone holds the block, and someone waits for it
        console.print(f"no beamformer of any rank gets the weakest user above {result.upper_bound_db:.2f} dB")
    if result.beam_bound_db is not None:
        console.print(f"no single beam gets it above {result.beam_bound_db:.2f} dB")
    if out is not None:
        console.print(f"wrote {out / 'radio.png'}, {out / 'radio.json'}, {out / 'channel.npz'}")
