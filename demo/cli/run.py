"""`pbcast run`: the main job, end to end."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demo.console import print_json

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Exit codes: 0 done, every delivery equal to its source; 1 an error, in one line; 2 usage; "
    "3 a delivery differs from its source; 130 interrupted (run it again to go on)."
)
def run(
    size: Annotated[Literal["small", "full"], typer.Option(help="Which zoo of real models.")] = "small",
    out: Annotated[Path, typer.Option(help="Folder for report.json, the pictures and the stores.")] = Path(
        "out"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seeds users, requests, channels and beamformers.")] = 0,
    slots: Annotated[int, typer.Option(min=1, help="Slots every scheme is simulated for.")] = 24,
    emulated_slots: Annotated[int, typer.Option(min=1, help="First slots replayed with real bytes.")] = 3,
    capacity_models: Annotated[
        float, typer.Option(min=0.01, help="Cache of a node in sizes of the largest whole model.")
    ] = 1.1,
    device_models: Annotated[
        float, typer.Option(min=0, help="Room of a device for earlier models, in sizes of the largest one.")
    ] = 0.0,
    scheme: Annotated[str, typer.Option(help="Scheme that is replayed with real bytes.")] = "learned",
    keep_stores: Annotated[
        bool, typer.Option("--keep-stores", help="Leave the stores of nodes and devices in OUT/network (GB).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> int:
    """Real models through the whole chain: stores, placement, CoMP broadcast, reassembly, inference."""
    from demo.jobs.config import RunConfig
    from demo.jobs.run import run_end_to_end
    from demo.show.run_figures import draw_figures
    from demo.show.run_tables import print_report

    config = RunConfig(
        size=size,
        seed=seed,
        num_slots=slots,
        emulated_slots=min(emulated_slots, slots),
        capacity_models=capacity_models,
        device_models=device_models,
        emulated_scheme=scheme,
    )
    report = run_end_to_end(config, out, keep_stores=keep_stores)
    draw_figures(report, out)
    if as_json:
        print_json(report.to_dict(), indent=1)
    else:
        print_report(report, out)
    return 0 if all(row.sha256_ok and row.inference_equal for row in report.deliveries) else 3
