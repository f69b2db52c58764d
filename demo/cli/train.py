"""`pbcast train`: train the learned policy, or one of the learned baselines, from nothing."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.console import busy, print_json

app = typer.Typer(add_completion=False, epilog=EXIT_CODES)


@app.command(epilog=EXIT_CODES)
def train(
    scheme: Annotated[
        str,
        typer.Argument(
            help="`learned` (ours), `maasn-da`, `maddpg`, `mappo`, `qmix`, `vdn`, or `./mine.py:Learner`."
        ),
    ] = "learned",
    out: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and `log.csv`; default: runs/SCHEME.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights, draws and order.")] = 0,
    seeds: Annotated[
        int, typer.Option(min=1, help="Training runs, from `--seed` up, each in a folder seed-N.")
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Processes, for several seeds.")] = 1,
    ray: Annotated[
        bool,
        typer.Option("--ray", help="Seeds on Ray (pip install 'pbcast[ray]'), at RAY_ADDRESS if set."),
    ] = False,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Most optimiser steps (learned) or episodes (others).")
    ] = None,
    worlds: Annotated[
        int | None, typer.Option(min=1, help="Training worlds; for `learned` in each random setting.")
    ] = None,
    settings: Annotated[
        int | None, typer.Option(min=1, help="Random settings to learn from; `learned` only.")
    ] = None,
    scenario: Annotated[
        str | None,
        typer.Option(help="What the others are trained for: `findings` (default), `default`, or a file."),
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's, at the start.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Looks at validation worlds without a new best before stopping.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from `last.safetensors`.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Train on worlds drawn at random, stop early on validation worlds; minutes on one core.

    The same seed gives the same weights, also after an interruption and `--resume`. Writes last.safetensors,
    best.safetensors, a JSON file beside each (seed, versions, hash of the traces), and log.csv. Options left
    out are as tuned.
    """
    from demo.jobs.train import TrainRequest, check, train_one, training_table
    from policy.parallel import spread

    folder = out or Path("runs") / Path(scheme).stem.replace(":", "-")
    requests = [
        TrainRequest(
            scheme=scheme,
            seed=number,
            folder=folder / f"seed-{number}" if seeds > 1 else folder,
            resume=resume,
            steps=steps,
            worlds=worlds,
            settings=settings,
            scenario=scenario,
            learning_rate=learning_rate,
            patience=patience,
        )
        for number in range(seed, seed + seeds)
    ]
    for request in requests:
        check(request)
    with busy(f"train {scheme}") if workers == 1 and not ray else nullcontext():
        runs = sorted(spread(train_one, requests, workers, ray), key=lambda run: run["seed"])
    if as_json:
        print_json({"scheme": scheme, "runs": runs}, indent=None)
    else:
        training_table(scheme, runs).print()
