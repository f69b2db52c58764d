"""`pbcast emulate`: a live edge."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demo.cli.options import (
    Backhaul,
    Bandwidth,
    Capacity,
    Cloud,
    Nodes,
    RequestProb,
    Superpose,
    Users,
    overrides,
)
from demo.console import print_json

app = typer.Typer(add_completion=False)

MODELS, NETWORK, PLAY, LIFE = "Models", "Network", "What is played", "How it lives"


@app.command(
    epilog="Exit codes: 0 done, every delivery equal to its source; 1 an error, in one line; 2 usage; "
    "3 a delivery differs from its source, or the log breaks a law; 130 interrupted."
)
def emulate(
    scenario: Annotated[
        str,
        typer.Option(
            help="One that ships, or a TOML or JSON file; the options change it.", rich_help_panel=NETWORK
        ),
    ] = "p1",
    size: Annotated[
        Literal["small", "full"], typer.Option(help="Which zoo of real models.", rich_help_panel=MODELS)
    ] = "small",
    store: Annotated[
        Path | None,
        typer.Option(help="A block store whose models are taken instead.", rich_help_panel=MODELS),
    ] = None,
    nodes: Nodes = None,
    users: Users = None,
    backhaul: Backhaul = None,
    cloud: Cloud = None,
    capacity: Capacity = None,
    bandwidth: Bandwidth = None,
    superpose: Superpose = None,
    request_prob: RequestProb = None,
    slots: Annotated[int, typer.Option(min=1, help="Slots that are lived.", rich_help_panel=PLAY)] = 3,
    scheme: Annotated[str, typer.Option(help="What nodes decide by.", rich_help_panel=PLAY)] = "learned",
    runtime: Annotated[
        Literal["threads", "processes", "ray"] | None,
        typer.Option(
            help="Where roles run: threads, or processes where links are shaped.", rich_help_panel=LIFE
        ),
    ] = None,
    links: Annotated[
        Literal["plain", "shaped"],
        typer.Option(
            help="Sockets of this machine, or roles in namespaces at the scenario's rates.",
            rich_help_panel=LIFE,
        ),
    ] = "plain",
    loss: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of packets lost on the air.", rich_help_panel=LIFE)
    ] = 0.0,
    snr_loss: Annotated[
        bool,
        typer.Option(
            "--snr-loss",
            help="Each device loses packets by its margin of SNR, beside --loss.",
            rich_help_panel=LIFE,
        ),
    ] = False,
    pace: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Speed of links and air: 1 real time (shaped links), 0 as fast as it goes (plain ones).",
            rich_help_panel=LIFE,
        ),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(help="A script of faults (TOML or JSON).", exists=True, rich_help_panel=LIFE),
    ] = None,
    requests: Annotated[
        Literal["trace", "clients"],
        typer.Option(
            help="Who asks: users of the scenario, or only clients at the devices (for --minutes).",
            rich_help_panel=PLAY,
        ),
    ] = "trace",
    ray_address: Annotated[
        str, typer.Option(help="Cluster for the runtime ray: local, or its address.", rich_help_panel=LIFE)
    ] = "local",
    listen: Annotated[
        str,
        typer.Option(
            help="Address that roles listen at, or a network in which every host has one, as 10.1.0.0/16.",
            rich_help_panel=LIFE,
        ),
    ] = "127.0.0.1",
    minutes: Annotated[float, typer.Option(min=0, help="Go on for so long.", rich_help_panel=LIFE)] = 0.0,
    clients: Annotated[
        int,
        typer.Option(min=0, help="Deliveries loaded by an unmodified from_pretrained.", rich_help_panel=LIFE),
    ] = 2,
    seed: Annotated[
        int, typer.Option(min=0, help="Seeds users, requests, channels, losses.", rich_help_panel=PLAY)
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for events.jsonl, emulate.json and the stores.")] = Path(
        "out/emulate"
    ),
    keep_stores: Annotated[
        bool, typer.Option("--keep-stores", help="Leave the disks of nodes and devices in OUT/network.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> int:
    """A live edge: nodes that decide, blocks that are broadcast once, models that run at the other end."""
    from demo.emulation.faults.script import read_script
    from demo.jobs.config import RunConfig
    from demo.jobs.emulate import emulate as live
    from demo.jobs.emulate_config import EmulateConfig
    from demo.show.emulation_tables import print_emulation
    from policy.config import load_config

    if links == "shaped":
        from demo.emulation.links import ensure_namespaces

        ensure_namespaces()
    changes = overrides(
        nodes=nodes,
        users=users,
        backhaul=backhaul,
        cloud=cloud,
        capacity=capacity,
        bandwidth=bandwidth,
        request_prob=request_prob,
        superpose=superpose,
    )
    played = changes.on(load_config(scenario))
    run = RunConfig(
        size=size,
        store=store,
        seed=seed,
        scenario=played,
        num_slots=max(slots, played.num_slots),
        emulated_slots=slots,
        emulated_scheme=scheme,
    )
    config = EmulateConfig(
        run=run,
        runtime=runtime or ("processes" if links == "shaped" else "threads"),
        links=links,
        loss=loss,
        snr_loss=snr_loss,
        pace=(1.0 if links == "shaped" else 0.0) if pace is None else pace,
        script=() if faults is None else read_script(faults),
        requests=requests,
        ray_address=ray_address,
        listen=listen,
        minutes=minutes,
        clients=clients,
    )
    report = live(config, out, keep_stores=keep_stores)
    if as_json:
        print_json(report.to_dict(), indent=1)
    else:
        print_emulation(report, out)
    return 0 if report.good else 3
