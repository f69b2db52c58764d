"""The first line of an event log: what is run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from demo.bridge.store_catalog import StoreCatalog
from demo.emulation.device import files_digest
from demo.emulation.log.events import LOG_VERSION, ModelAbout, NodeAbout, Started
from demo.jobs.config import RunConfig
from demo.jobs.originals import Original
from policy.scenario import Scenario
from policy.world.mobility import grid_nodes


def started_of(run: RunConfig, offer: StoreCatalog, originals: Mapping[str, Original], **how: Any) -> Started:  # noqa: ANN401
    """The first line of a log.

    Args:
        run: Settings.
        offer: The catalog.
        originals: The models by name.
        how: The rest of `Started`: `runtime`, `links`, `pace`, `loss`, `num_slots`, `settings`.
    """
    catalog = offer.catalog
    scenario = Scenario(run.scenario_on(catalog), catalog)
    config = scenario.config
    places = grid_nodes(config.num_nodes, config.area_m)
    return Started(
        version=LOG_VERSION,
        seed=run.seed,
        scheme=run.emulated_scheme,
        slot_s=config.slot_s,
        area_m=config.area_m,
        num_users=config.num_users,
        nodes=tuple(
            NodeAbout(node=n, x_m=float(x), y_m=float(y), capacity_bytes=int(scenario.capacity_bytes[n]))
            for n, (x, y) in enumerate(places)
        ),
        models=tuple(
            ModelAbout(
                name=name,
                base=originals[name].row.base,
                kind=originals[name].row.kind,
                raw_bytes=originals[name].row.raw_bytes,
                files_sha256=files_digest(originals[name].hashes),
                units=tuple(np.flatnonzero(catalog.members[row]).tolist()),
            )
            for row, name in enumerate(catalog.model_names)
        ),
        unit_bytes=tuple(catalog.sizes_bytes.tolist()),
        **how,
    )
