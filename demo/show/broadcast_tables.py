"""The table that `pbcast radio` prints."""

import math
from pathlib import Path

from demo.console import Sheet, say
from demo.jobs.broadcast import Comparison, Scenario

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
    columns = (
        "min dB",
        *(("sure dB",) if robust else ()),
        "bit/s/Hz",
        "time s",
        "gap %",
        "CPU ms",
    )
    table = Sheet("scheme", *(f"#{name}" for name in columns), title=head, box=None)
    for row in result.rows:
        weakest = f"{min(row.snr_db):.2f}" if row.snr_db else ""
        guaranteed = ("" if row.guaranteed_db is None else f"{row.guaranteed_db:.2f}",) if robust else ()
        gap = "" if row.gap is None else f"{100 * row.gap:.3f}"
        note = row.status if row.status not in ("ok", "baseline") else ""
        name = f"{row.name} ({note})" if note and note not in row.name else row.name
        seconds = "never" if math.isinf(row.airtime_s) else f"{row.airtime_s:.3f}"
        cells = (weakest, *guaranteed, f"{row.rate_bit_s_hz:.2f}", seconds, gap, f"{row.cpu_ms:.1f}")
        table.row(name, *cells)
    table.print()
    if result.dropped:
        names = ", ".join(map(str, result.dropped))
        say(f"user {names} hears no node that sends: the beams are for the others")
    if math.isfinite(result.upper_bound_db):  # someone holds the block, and someone waits for it
        say(f"no beamformer of any rank gets the weakest user above {result.upper_bound_db:.2f} dB")
    if result.beam_bound_db is not None:
        say(f"no single beam gets it above {result.beam_bound_db:.2f} dB")
    if out is not None:
        say(f"wrote {out / 'radio.png'}, {out / 'radio.json'}, {out / 'channel.npz'}")
