"""`pbcast evaluate`: schemes against one another on the same worlds."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demo.cli.app import EXIT_CODES
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

app = typer.Typer(add_completion=False, epilog=EXIT_CODES)

DEFAULT_SCHEMES = (
    "whole-model,lru,trimcaching-gen,static-distinct,know-nothing,rendezvous,ewma-greedy,pooled,planner-fair"
)


@app.command(epilog=EXIT_CODES)
def evaluate(
    scenario: Annotated[
        str,
        typer.Option(
            help="`default`, `findings`, `p1`, `p2`, `v30`, or a TOML or JSON file, which may name one "
            "as `base`."
        ),
    ] = "findings",
    schemes: Annotated[
        str,
        typer.Option(
            help="Names, comma-separated, or `all` that can run. `lru+no-comp` is an ablation, "
            "`ewma-greedy:weight=0.2` a setting (several: `a=1;b=2`), `./mine.py:ENTRY` one of your own."
        ),
    ] = DEFAULT_SCHEMES,
    worlds: Annotated[int, typer.Option(min=1, help="Worlds every scheme is played on.")] = 16,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds per world, for schemes that draw.")] = 1,
    split: Annotated[
        Literal["train", "validation", "test", "held-out"],
        typer.Option(help="Which worlds. held-out: played once, for final reports; looks are on record."),
    ] = "validation",
    seen: Annotated[
        bool, typer.Option("--seen", help="Play held-out worlds again that were looked at before.")
    ] = False,
    first_world: Annotated[int, typer.Option(min=0, help="Number of the first world in the split.")] = 0,
    catalog: Annotated[
        Path | None,
        typer.Option(help="A block catalog (.npz of `BlockCatalog.save`), not the scenario's."),
    ] = None,
    catalog_from: Annotated[
        Path | None, typer.Option(help="A block store whose models are the catalog.")
    ] = None,
    unit_mb: Annotated[
        float | None,
        typer.Option(min=1e-3, help="Cut larger blocks into byte ranges of at most so many MB."),
    ] = None,
    nodes: Nodes = None,
    users: Users = None,
    backhaul: Backhaul = None,
    cloud: Cloud = None,
    capacity: Capacity = None,
    request_prob: RequestProb = None,
    trace: TraceFile = None,
    trace_time: TraceTime = "s",
    trace_columns: TraceColumns = "",
    trace_objects: TraceObjects = "models",
    trace_format: TraceFormat = "own",
    radio: Annotated[
        Literal["cheap", "beamformers"],
        typer.Option(help="The policy's cheap radio, or real beamformers on TR 38.901 channels (slow)."),
    ] = "cheap",
    antennas: Antennas = 8,
    bandwidth: Bandwidth = None,
    superpose: Superpose = None,
    csi_error: CsiSize = 0.0,
    csi_kind: CsiKind = "relative",
    csi_design: CsiDesign = "robust",
    weights: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint of `pbcast train` to play instead of the shipped one; repeatable."),
    ] = None,
    bound_worlds: Annotated[
        int, typer.Option(min=0, help="Worlds the bounds are computed on; 0: none.")
    ] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    ray: Annotated[bool, typer.Option("--ray", help="Run on Ray (pip install 'pbcast[ray]').")] = False,
    cache: Annotated[
        Path | None, typer.Option(help="Where finished episodes are kept; default: in pbcast's cache folder.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Neither use nor keep finished episodes.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    figure: Annotated[
        Path | None,
        typer.Option(help="Draw the ladder (.png, .pdf, .svg); numbers as CSV beside."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Play schemes on the same worlds: delays with intervals, paired reductions, and what is left to gain.

    Finished episodes are kept, so that an interrupted evaluation goes on where it stopped.
    """
    from demo.bridge.csi import CsiError
    from demo.jobs.evaluate import Worlds, kept_in, run_evaluation, trace_source
    from demo.show.evaluation import print_evaluation
    from demo.show.figure import check_figure
    from demo.show.ladder import draw_ladder
    from policy.learn.checkpoint import use_weights

    if figure is not None:
        check_figure(figure)
    use_weights(weights or [])
    played = Worlds(
        scenario=scenario,
        catalog=catalog,
        catalog_from=catalog_from,
        trace=None
        if trace is None
        else trace_source(
            trace, trace_time, trace_columns, trace_objects, None if trace_format == "own" else trace_format
        ),
        beamformers=radio == "beamformers",
        changes=overrides(
            nodes=nodes,
            users=users,
            backhaul=backhaul,
            cloud=cloud,
            capacity=capacity,
            bandwidth=bandwidth,
            request_prob=request_prob,
            superpose=superpose,
        ),
        antennas=antennas,
        csi=CsiError(size=csi_error, kind=csi_kind, design=csi_design),
        unit_bytes=None if unit_mb is None else 1e6 * unit_mb,
        split=split,
        first=first_world,
        count=worlds,
    )
    result = run_evaluation(
        played,
        _names(schemes),
        seeds=seeds,
        bound_worlds=bound_worlds,
        workers=workers,
        ray=ray,
        folder=None if fresh else kept_in(cache),
        boot_seed=seed,
        seen=seen,
    )
    if figure is not None:
        draw_ladder(result, figure)
    if as_json:
        print_json(result.to_dict(), indent=1)
    else:
        print_evaluation(result)


def _names(schemes: str) -> list[str] | None:
    if schemes.strip() == "all":
        return None
    return [name.strip() for name in schemes.split(",") if name.strip()]
