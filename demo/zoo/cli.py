"""`pbcast zoo`: fetch and train the real models, and list them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from demo.console import Sheet, print_json
from demo.zoo.build import build_zoo
from demo.zoo.model import ZooModel

_CAPTION = """held-out: accuracy on rows that were not trained on (embeddings: of the nearest
class centroid; language models: of the next token); majority: the same for
always giving the most frequent answer"""

app = typer.Typer(add_completion=False)


@app.command(epilog="Exit codes: 0 done; 1 no model could be had; 2 usage; 130 interrupted.")
def zoo(
    size: Annotated[str, typer.Option(help="small (7 models) or full.")] = "small",
    cache: Annotated[
        Path | None, typer.Option(help="Cache folder (default: PBCAST_CACHE or the XDG cache).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Fetch real models by name and pinned sha256, train their children, list them with their scores."""
    models = build_zoo(size, cache)
    if as_json:
        print_json([model.as_json() for model in models])
    else:
        zoo_table(models).print()


def zoo_table(models: list[ZooModel]) -> Sheet:
    """One row per model, 80 columns wide."""
    style: dict[str, Any] = {
        "box": None,
        "pad_edge": False,
        "padding": (0, 1, 0, 0),
        "caption": Text(_CAPTION),
    }
    table = Sheet("model", "kind", "#MB", "#held-out", "#majority", **style)
    for model in models:
        known = model.value is not None and model.majority is not None
        shares = (f"{model.value:.1%}", f"{model.majority:.1%}") if known else ("-", "-")
        table.row(model.name, model.kind, f"{model.raw_bytes / 1e6:.1f}", *shares)
    return table
