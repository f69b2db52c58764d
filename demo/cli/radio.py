"""`pbcast radio`: solve one broadcast, compare solvers, draw who is served how well."""

from pathlib import Path
from typing import Annotated, Any

import typer

from demo.console import print_json

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 done; 1 an error, in one line; 2 usage; 130 interrupted.")
def radio(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            help="TOML file, see below; without one, the default scenario of four nodes.", dir_okay=False
        ),
    ] = None,
    channel: Annotated[
        Path | None,
        typer.Option(help="Channel file (.npz) to use in place of a drawn channel.", dir_okay=False),
    ] = None,
    csi_error: Annotated[
        float,
        typer.Option(min=0, help="CSI error of each user, as a share of its channel's norm; 0 is none."),
    ] = 0.0,
    sdp: Annotated[
        bool,
        typer.Option(
            help="Also solve the semidefinite relaxation in cvxpy: seconds; with CSI error minutes and "
            "gigabytes, about 20 and 8 in the default scenario. Says before what it takes; Ctrl-C stops it."
        ),
    ] = False,
    best: Annotated[
        bool,
        typer.Option(
            "--global",
            help="Also find the best single beam and its bound by branch and bound (at worst a minute; up to "
            "32 antennas that send and 32 users that wait, no CSI error).",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for radio.png, radio.json and channel.npz.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds positions, shadowing, fading and starts.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Solve one CoMP broadcast with every solver and baseline, and print the proven gap of each.

    A scenario file may hold a table named radio with fields of RadioConfig (num_nodes, num_antennas,
    num_users, area_m, carrier_hz, bandwidth_hz, node_power_dbm, scenario, array, ...) and, at the top,
    users_xy and nodes_xy (lists of x, y pairs in m), holders and waiting (lists of indices), size_bytes
    and csi_error.
    """
    import json

    from demo.jobs.broadcast import compare, load_scenario
    from demo.show.broadcast_tables import print_comparison

    loaded = load_scenario(scenario, channel, seed, csi_error)
    result = compare(loaded, seed, sdp=sdp, best=best)
    if out is not None:
        from demo.show.broadcast_picture import draw_broadcast
        from radio import ChannelFile, save_channel

        out.mkdir(parents=True, exist_ok=True)
        draw_broadcast(loaded, result, out / "radio.png")
        document: dict[str, Any] = result.document()
        (out / "radio.json").write_text(json.dumps(document, indent=1) + "\n")
        kept = ChannelFile(
            h=loaded.h,
            power_w=loaded.power_w,
            noise_w=loaded.noise_w,
            csi_error=loaded.csi_error,
            users_xy=loaded.users_xy,
            nodes_xy=loaded.nodes_xy,
        )
        save_channel(out / "channel.npz", kept)
    if as_json:
        print_json(result.document(), indent=1)
    else:
        print_comparison(loaded, result, out)
