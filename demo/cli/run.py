"""`pbcast run`: the main job, end to end."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demo.cli.options import (
    Antennas,
    Backhaul,
    Bandwidth,
    Capacity,
    Cloud,
    CsiDesign,
    CsiKind,
    CsiSize,
    Nodes,
    RequestProb,
    Superpose,
    TraceColumns,
    TraceFile,
    TraceFormat,
    TraceObjects,
    TraceTime,
    Users,
    overrides,
)
from demo.console import print_json

app = typer.Typer(add_completion=False)

MODELS, NETWORK, PLAY = "Models", "Network", "What is played"


@app.command(
    epilog="Exit codes: 0 done, every delivery equal to its source; 1 an error, in one line; 2 usage; "
    "3 a delivery differs from its source; 130 interrupted (run it again to go on)."
)
def run(
    size: Annotated[
        Literal["small", "full"], typer.Option(help="Which zoo of real models.", rich_help_panel=MODELS)
    ] = "small",
    store: Annotated[
        Path | None,
        typer.Option(
            help="A block store (`pbcast store add`) whose models are taken instead of the zoo.",
            rich_help_panel=MODELS,
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option(
            help="`p1` (real models over slow wires), another that ships, or a TOML or JSON file; "
            "the options below change it.",
            rich_help_panel=NETWORK,
        ),
    ] = "p1",
    nodes: Nodes = None,
    users: Users = None,
    backhaul: Backhaul = None,
    cloud: Cloud = None,
    capacity: Capacity = None,
    capacity_models: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Room of a node in sizes of the largest whole model.", rich_help_panel=NETWORK
        ),
    ] = None,
    device_models: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Room of a device for earlier models, in sizes of the largest one; 0: it keeps nothing.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    request_prob: RequestProb = None,
    trace: TraceFile = None,
    trace_time: TraceTime = "s",
    trace_columns: TraceColumns = "",
    trace_objects: TraceObjects = "models",
    trace_format: TraceFormat = "own",
    antennas: Antennas = 8,
    bandwidth: Bandwidth = None,
    superpose: Superpose = None,
    csi_error: CsiSize = 0.0,
    csi_kind: CsiKind = "relative",
    csi_design: CsiDesign = "robust",
    slots: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Slots a world has; default: 12, or fewer if the scenario says so.",
            rich_help_panel=PLAY,
        ),
    ] = None,
    worlds: Annotated[
        int, typer.Option(min=1, help="Worlds every scheme is played on.", rich_help_panel=PLAY)
    ] = 6,
    emulated_slots: Annotated[
        int, typer.Option(min=1, help="First slots replayed with real bytes.", rich_help_panel=PLAY)
    ] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Processes that simulate.", rich_help_panel=PLAY)] = 2,
    scheme: Annotated[
        str, typer.Option(help="Scheme that is replayed with real bytes.", rich_help_panel=PLAY)
    ] = "learned",
    seed: Annotated[
        int,
        typer.Option(min=0, help="Seeds users, requests, channels and beamformers.", rich_help_panel=PLAY),
    ] = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for report.json, events.jsonl, the pictures and the stores.")
    ] = Path("out"),
    keep_stores: Annotated[
        bool, typer.Option("--keep-stores", help="Leave the stores of nodes and devices in OUT/network (GB).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> int:
    """Real models through the whole chain: stores, placement, CoMP broadcast, reassembly, inference.

    The models are a zoo of real ones, fetched and trained on the first run, or those of your own store.
    """
    from demo.bridge.csi import CsiError
    from demo.jobs.config import SLOTS, RunConfig
    from demo.jobs.evaluate import trace_source
    from demo.jobs.run import run_end_to_end
    from demo.show.run_figures import draw_figures
    from demo.show.run_tables import print_report
    from policy.config import load_config

    if capacity is not None and capacity_models is not None:
        raise ValueError("give a node's room once: --capacity or --capacity-models")
    if trace is not None and not trace.is_file():
        raise ValueError(f"expected a file of requests, there is none at {trace}")
    changes = overrides(
        nodes=nodes,
        users=users,
        backhaul=backhaul,
        cloud=cloud,
        capacity=capacity,
        bandwidth=bandwidth,
        request_prob=request_prob,
        slots=slots,
        superpose=superpose,
    )
    played = changes.on(load_config(scenario))
    num_slots = slots or min(played.num_slots, SLOTS)
    config = RunConfig(
        size=size,
        store=store,
        seed=seed,
        scenario=played,
        num_slots=num_slots,
        worlds=worlds,
        emulated_slots=min(emulated_slots, num_slots),
        emulated_scheme=scheme,
        capacity_models=capacity_models,
        device_models=device_models,
        antennas=antennas,
        csi=CsiError(size=csi_error, kind=csi_kind, design=csi_design),
        trace=None
        if trace is None
        else trace_source(
            trace, trace_time, trace_columns, trace_objects, None if trace_format == "own" else trace_format
        ),
    )
    report = run_end_to_end(config, out, keep_stores=keep_stores, workers=workers)
    draw_figures(report, out)
    if as_json:
        print_json(report.to_dict(), indent=1)
    else:
        print_report(report, out)
    good = all(row.sha256_ok and row.inference_equal is not False for row in report.deliveries)
    return 0 if good else 3
