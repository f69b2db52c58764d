"""`pbcast explain`: why is this block on this node?"""

from pathlib import Path
from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.console import print_json

app = typer.Typer(add_completion=False, epilog=EXIT_CODES)


@app.command(epilog=EXIT_CODES)
def explain(
    scenario: Annotated[
        str, typer.Option(help="`findings`, `default`, or a TOML or JSON file.")
    ] = "findings",
    world: Annotated[int, typer.Option(min=0, help="Number of the validation world.")] = 0,
    slot: Annotated[int, typer.Option(min=0, help="Slot whose placement is explained.")] = 8,
    node: Annotated[int | None, typer.Option(min=0, help="Only this node.")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint of `pbcast train`; default: the shipped weights.")
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="A block catalog (.npz of `BlockCatalog.save`) to use instead.")
    ] = None,
    left_out: Annotated[int, typer.Option(min=0, help="Blocks listed that were not cached, a node.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the policy's draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Take one decision of the learned policy apart: forecast demand, seconds saved, price of room."""
    import numpy as np

    from policy.interfaces import BlockCatalog
    from policy.learn.augur import Augur
    from policy.learn.augur_pipelined import AugurPipelined
    from policy.learn.explain import explain_world
    from policy.scenario import load_scenario
    from policy.schemes.learned import start_with
    from policy.slot.tables import MAX_TABLE_NODES
    from policy.world.splits import world_seed

    problem = load_scenario(scenario, BlockCatalog.load(catalog) if catalog else None)
    if problem.config.num_nodes > MAX_TABLE_NODES:
        raise ValueError(f"only decisions for at most {MAX_TABLE_NODES} nodes are explained")
    if node is not None and node >= problem.config.num_nodes:
        raise ValueError(f"node must be 0..{problem.config.num_nodes - 1}, got {node}")
    augur = start_with(weights, problem, np.random.default_rng(seed))
    if not isinstance(augur, Augur | AugurPipelined):
        raise ValueError("only decisions by tables are explained")
    drawn = problem.world(world_seed("validation", world))
    rows = [row for row in explain_world(drawn, augur, slot, left_out) if node in (None, row.node)]
    if as_json:
        print_json([row.to_dict() for row in rows], indent=None)
        return
    from demo.show.explanation import print_reasons

    overlap = problem.config.planning_links != problem.config.links
    print_reasons(rows, slot, problem.capacity_bytes, overlap=overlap)
