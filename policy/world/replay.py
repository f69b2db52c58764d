"""A trace from a file of requests: bring your own.

One request a row (see `policy.world.request_files` for the kinds of file):

    time_s   when, from any start; the trace starts with the first request
    user     who: any text; or, instead,
    cell     where: node 0..nodes-1; the request goes to a user who stays in that cell
    model    what: a model's name, or its number
    x_m,y_m  optional, with `user`: where the user is then, m

Without user and cell, requests go to users drawn at random. A user's second request within a slot waits for
the user's next free slot, and is dropped when the trace ends first: `Replayed` counts both. Users without
places walk by the scenario's mobility. Public traces name objects that are no models: with `objects="rank"`
the most requested object is the first model, and so on; what comes after the last model is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from policy.config import ScenarioConfig
from policy.errors import TraceError
from policy.interfaces import BlockCatalog, Float, Int, names_to_index
from policy.world.mobility import grid_nodes, start_mobility, step_mobility
from policy.world.request_files import FileFormat, Request, counts, read_requests
from policy.world.trace import Trace, nearest

Objects = Literal["models", "rank"]
MAX_CELLS = 20_000_000
"""Most slots x users of a trace: 0.5 GB of places and requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A trace from a file, and what became of the file's requests."""

    trace: Trace
    requests: int
    """Rows of the file."""
    kept: int
    """Requests in the trace, the delayed ones included."""
    delayed: int
    """Requests that wait for a later slot, since their user asks for something else in theirs."""
    dropped: int
    """Requests whose user has no free slot before the trace ends."""
    foreign: int
    """Requests for objects that stand for no model; only with `objects="rank"`."""


def replay(
    path: Path,
    config: ScenarioConfig,
    catalog: BlockCatalog,
    rng: np.random.Generator,
    *,
    how: FileFormat | None = None,
    objects: Objects = "models",
    max_cells: int = MAX_CELLS,
) -> Replayed:
    """Read a request file into a trace of the scenario's nodes and users; it lasts as long as the file does.

    Args:
        path: CSV, Parquet or oracleGeneral, see `policy.world.request_files`.
        config: Nodes, users, slot length and mobility.
        catalog: Names of the models.
        rng: Draws the places of users who have none in the file, and users where it names none.
        how: Unit of time and names of columns.
        objects: `models`: the file asks for models of the catalog; `rank`: for anything, see above.
        max_cells: Most slots x users; a longer file is refused before memory is taken.

    Raises:
        TraceError: If the file cannot be read, or a row is not a request that the scenario can take.
    """
    rows = sorted(read_requests(path, how), key=lambda row: row.time_s)
    if not rows:
        raise TraceError(f"{path} holds no requests")
    numbers = _model_numbers(path, rows, catalog, objects)
    start_s, num_slots = rows[0].time_s, _num_slots(path, rows, config, max_cells)
    seats = _seats(path, rows, config, share=how is not None and how.public is not None)
    places = _walk(rng, config, num_slots)
    _settle_cells(rng, places, seats, config)
    anybody = rng.integers(config.num_users, size=len(rows))
    requests = np.full((num_slots, config.num_users), -1, dtype=np.int64)
    next_free = np.zeros(config.num_users, dtype=np.int64)
    turn: dict[str, int] = {}
    kept = delayed = dropped = 0
    for row, number, other in zip(rows, numbers, anybody.tolist(), strict=True):
        if number < 0:
            continue
        user = other if row.who is None else _turn(seats[row.who], turn, row.who)
        own = int((row.time_s - start_s) // config.slot_s)
        slot = max(own, int(next_free[user]))
        next_free[user] = slot + 1
        if slot >= num_slots:
            dropped += 1
            continue
        kept, delayed = kept + 1, delayed + (slot > own)
        requests[slot, user] = number
        if row.xy is not None:
            places[slot:, user] = row.xy
    trace = Trace(node_xy=grid_nodes(config.num_nodes, config.area_m), user_xy=places, requests=requests)
    foreign = sum(number < 0 for number in numbers)
    return Replayed(
        trace=trace, requests=len(rows), kept=kept, delayed=delayed, dropped=dropped, foreign=foreign
    )


def window(trace: Trace, index: int, num_slots: int) -> Trace:
    """The `index`-th stretch of so many slots; raises TraceError if the trace has fewer."""
    count = trace.num_slots // num_slots
    if not 0 <= index < count:
        raise TraceError(
            f"the trace has {trace.num_slots} slots, which are {count} worlds of {num_slots}; "
            f"world {index} was asked for"
        )
    part = slice(index * num_slots, (index + 1) * num_slots)
    return Trace(node_xy=trace.node_xy, user_xy=trace.user_xy[part], requests=trace.requests[part])


def _turn(seats: Sequence[int], turn: dict[str, int], who: str) -> int:
    """The next of the users who stand for somebody in the file."""
    turn[who] = turn.get(who, -1) + 1
    return seats[turn[who] % len(seats)]


def _num_slots(path: Path, rows: Sequence[Request], config: ScenarioConfig, max_cells: int) -> int:
    spans_s = rows[-1].time_s - rows[0].time_s
    slots = spans_s // config.slot_s + 1
    if slots * config.num_users > max_cells:
        raise TraceError(
            f"{path} spans {spans_s:,.0f} s, {slots:,.0f} slots of {config.slot_s:g} s with "
            f"{config.num_users} users: more than {max_cells:,} places; is its time in another unit?"
        )
    return int(slots)


def _model_numbers(path: Path, rows: Sequence[Request], catalog: BlockCatalog, objects: Objects) -> list[int]:
    """Model of each row, -1 for what stands for none."""
    if objects == "rank":
        ranked = counts(row.model for row in rows)
        places = {name: place for place, name in enumerate(ranked) if place < catalog.num_models}
        return [places.get(row.model, -1) for row in rows]
    names = names_to_index(catalog.model_names)
    return [_model(path, row, names, catalog.num_models) for row in rows]


def _model(path: Path, row: Request, names: dict[str, int], count: int) -> int:
    """Number of a model given by name or number."""
    text = row.model
    if text in names:
        return names[text]
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count:
        return int(text)
    raise TraceError(
        f"{path}, row {row.row} asks for model {text[:60]!r}, which is not on offer ({count} models, such as "
        f"{next(iter(names), '0')!r})"
    )


def _seats(
    path: Path, rows: Sequence[Request], config: ScenarioConfig, *, share: bool
) -> dict[str, list[int]]:
    """Users of the scenario that stand for each user or cell of the file; `share`: several for one seat."""
    first = {row.who: row for row in reversed(rows) if row.who is not None}
    cells = sorted(who for who, row in first.items() if row.in_cell)
    users = sorted(who for who, row in first.items() if not row.in_cell)
    for cell in cells:
        if cell not in {f"cell {node}" for node in range(config.num_nodes)}:
            raise TraceError(
                f"{path}, row {first[cell].row}: {cell[:60]} is not one of {config.num_nodes} nodes"
            )
    if share and len(users) > config.num_users:
        return {user: [_seat_of(user, config.num_users)] for user in users}
    if len(users) + len(cells) > config.num_users:
        raise TraceError(
            f"{path} names {len(users)} users and {len(cells)} cells, "
            f"the scenario has {config.num_users} users"
        )
    seats = {user: [seat] for seat, user in enumerate(users)}
    for index, cell in enumerate(cells):
        seats[cell] = list(range(len(users) + index, config.num_users, len(cells)))
    return seats


def _seat_of(user: str, seats: int) -> int:
    """A seat by a hash of the name: the same in every run and every part of a trace."""
    return int.from_bytes(blake2b(user.encode(), digest_size=8).digest()) % seats


def _walk(rng: np.random.Generator, config: ScenarioConfig, num_slots: int) -> Float:
    """Places of all users for as long as the file lasts, (slots, users, 2), m."""
    state = start_mobility(rng, config.num_users, config.area_m, config.mobility)
    places = np.empty((num_slots, config.num_users, 2))
    for slot in range(num_slots):
        state = step_mobility(rng, state, config.slot_s, config.area_m, config.mobility)
        places[slot] = state.xy
    return places


def _settle_cells(
    rng: np.random.Generator, places: Float, seats: dict[str, list[int]], config: ScenarioConfig
) -> None:
    """Put the users who stand for a cell at random points of it, for good."""
    nodes = grid_nodes(config.num_nodes, config.area_m)
    points = rng.uniform(0, config.area_m, size=(4096, 2))
    cells: Int = nearest(nodes, points)
    for who, users in seats.items():
        if who.startswith("cell "):
            inside = points[cells == int(who.removeprefix("cell "))]
            places[:, users] = inside[rng.integers(len(inside), size=len(users))]
