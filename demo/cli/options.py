"""Options that several commands share: what they change in a scenario and in the radio."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from demo.cli.store_shared import parse_size
from demo.jobs.overrides import Overrides

NETWORK, RADIO, REQUESTS = "Network", "Radio", "Requests"

Nodes = Annotated[int | None, typer.Option(min=1, help="Edge nodes.", rich_help_panel=NETWORK)]
Users = Annotated[int | None, typer.Option(min=1, help="Users.", rich_help_panel=NETWORK)]
Backhaul = Annotated[
    float | None, typer.Option("--backhaul", help="Link between nodes, Mbit/s.", rich_help_panel=NETWORK)
]
Cloud = Annotated[
    float | None,
    typer.Option("--cloud", help="Link from the cloud to a node, Mbit/s.", rich_help_panel=NETWORK),
]
Capacity = Annotated[
    str | None,
    typer.Option(
        help="Room of a node: a share of all blocks (0.2, 20%) or a size (500MB).", rich_help_panel=NETWORK
    ),
]
RequestProb = Annotated[
    float | None,
    typer.Option(help="Chance that a user asks for a model in a slot.", rich_help_panel=REQUESTS),
]
TraceFile = Annotated[
    Path | None,
    typer.Option(
        help="Requests from a file instead of drawn ones: CSV, Parquet or oracleGeneral (.gz, .zst); "
        "world i is its i-th stretch of as many slots as the scenario has.",
        rich_help_panel=REQUESTS,
    ),
]
TraceTime = Annotated[
    Literal["s", "ms", "us", "ns", "iso"],
    typer.Option(help="Unit of the file's time.", rich_help_panel=REQUESTS),
]
TraceColumns = Annotated[
    str,
    typer.Option(
        help="Columns with other names than time_s, user, cell, model, x_m, y_m: `time=ts,model=object`; "
        "numbers (`time=1,model=4`) count columns of a CSV without a header, from 0.",
        rich_help_panel=REQUESTS,
    ),
]
TraceObjects = Annotated[
    Literal["models", "rank"],
    typer.Option(
        help="What the file asks for: models of the catalog, or anything, ranked by demand.",
        rich_help_panel=REQUESTS,
    ),
]
TraceFormat = Annotated[
    Literal["own", "azure-functions-2021", "burstgpt", "twitter-cache"],
    typer.Option(
        help="Layout of a public trace, which you have to fetch from its makers.", rich_help_panel=REQUESTS
    ),
]
Antennas = Annotated[int, typer.Option(min=1, help="Antennas of a node.", rich_help_panel=RADIO)]
Bandwidth = Annotated[
    float | None, typer.Option("--bandwidth", help="Width of the band, MHz.", rich_help_panel=RADIO)
]
Superpose = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=8,
        help="Blocks on the air at once at most, each for users of its own; 1: one after another.",
        rich_help_panel=RADIO,
    ),
]
CsiSize = Annotated[
    float,
    typer.Option(
        "--csi-error", help="How far off the nodes' channel estimates are, at most.", rich_help_panel=RADIO
    ),
]
CsiKind = Annotated[
    Literal["relative", "absolute"],
    typer.Option(help="Of each link's channel, or in its units.", rich_help_panel=RADIO),
]
CsiDesign = Annotated[
    Literal["robust", "nominal"],
    typer.Option(help="Beams that hold for every channel in the ball, or none of it.", rich_help_panel=RADIO),
]


def overrides(
    *,
    nodes: int | None,
    users: int | None,
    backhaul: float | None,
    cloud: float | None,
    capacity: str | None,
    bandwidth: float | None,
    request_prob: float | None,
    slots: int | None = None,
    superpose: int | None = None,
) -> Overrides:
    """The options as changes of a scenario."""
    share, size = (None, None) if capacity is None else parse_capacity(capacity)
    return Overrides(
        nodes=nodes,
        users=users,
        slots=slots,
        request_prob=request_prob,
        backhaul_mbit=backhaul,
        cloud_mbit=cloud,
        bandwidth_mhz=bandwidth,
        superpose=superpose,
        capacity_share=share,
        capacity_bytes=size,
    )


def parse_capacity(text: str) -> tuple[float | None, float | None]:
    """A node's room as a share of the catalog (`0.2`, `20%`) or in bytes (`500MB`), the other one None.

    Raises:
        ValueError: If it is neither, or not above 0.
    """
    expected = f"capacity must be a share such as 0.2 or 20%, or a size such as 500MB, got {text!r}"
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (1 if number == text.strip() else 100)
    except ValueError:
        size = parse_size(text)
        if not size or size < 0:
            raise ValueError(expected) from None
        return None, float(size)
    if not 0 < share < float("inf") or share > 1000:
        raise ValueError(expected)
    return share, None
