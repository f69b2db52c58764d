"""The events of a live edge, one class a kind. Names and fields are those of the file; see `EVENTS.md`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias, get_args, get_origin, get_type_hints

LOG_VERSION = 1
"""Version of the format; a reader refuses others."""
COMPUTED = "computed"
"""`runtime` and `links` in the log of `pbcast run`: nothing was timed, all times are the plan's."""
ORIGIN = -1
"""The origin, where an event names a node."""


class EventError(ValueError):
    """A line of a log is not an event."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAbout:
    """An edge node of a run."""

    node: int
    x_m: float
    y_m: float
    capacity_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAbout:
    """A model of a run."""

    name: str
    base: str | None
    kind: str
    raw_bytes: int
    files_sha256: str
    """SHA-256 over the sorted lines `SHA256  PATH` of its files: what a delivery must have."""
    units: tuple[int, ...]
    """Units that it is made of, in the form in which they are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run begins: the first line of a log."""

    version: int
    seed: int
    runtime: str
    links: str
    scheme: str
    pace: float
    """Speed of the emulated clock beside the wall's: 1 real time, 0 as fast as it goes."""
    loss: float
    num_slots: int
    slot_s: float
    area_m: float
    num_users: int
    nodes: tuple[NodeAbout, ...]
    models: tuple[ModelAbout, ...]
    unit_bytes: tuple[int, ...]
    """Kept bytes of each unit of placement."""
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotBegan:
    """A slot begins; users are where they are."""

    slot: int
    user_xy: tuple[tuple[float, ...], ...]
    """Places, (users, 2), m."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A node has decided what it caches, and done so."""

    slot: int
    node: int
    added: tuple[int, ...]
    """Units that its cache gains."""
    dropped: tuple[int, ...]
    held_bytes: int
    """Bytes in its cache afterwards."""
    worth: tuple[float, ...]
    """What the scheme takes each added unit to be worth, beside `added`; empty if it says nothing."""
    why: str
    """The scheme, and on how many slots of history it decided."""
    decision_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested:
    """A user asks for a model."""

    slot: int
    user: int
    model: str
    node: int
    """The node that took the request; -1: none, for the device reached nobody: it is taken later."""
    source: str
    """`trace`, or `client` (somebody asked at the device's endpoint)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A node has told the others what it knows, and heard from them."""

    slot: int
    node: int
    requests: int
    """Requests that it took itself."""
    sent_bytes: int
    """Bytes of its reports, to all."""
    late: tuple[int, ...]
    """Nodes whose report did not come in time: it goes on without."""
    visits: tuple[int, ...] = ()
    """Models, by their number in `started`, that programs loaded from this node itself: decisions see each as
    a request of the nearest user who has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The leading node has planned how the slot is served."""

    slot: int
    node: int
    transfers: int
    broadcasts: int
    plan_ms: float
    computed_delay_s: tuple[float, ...]
    """What the plan says each user will wait, (users,), s; 0 for those who asked for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """A unit came to a node over a link, or did not."""

    slot: int
    unit: int
    form: str
    """`kept` or `alone`."""
    source: int
    """Node, or -1: the origin."""
    target: int
    cause: str
    """`update` (for a cache), `serve` (planned, for a broadcast), `repair` (what faults made necessary)."""
    payload_bytes: int
    started_s: float
    ended_s: float
    why_not: str = ""
    """Empty if it came; else why it did not, and nothing was kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadcast:
    """Units were sent once to all users who miss them, by all their holders together."""

    slot: int
    units: tuple[int, ...]
    form: str
    holders: tuple[int, ...]
    users: tuple[int, ...]
    rate_bit_s: float
    bound_bit_s: float
    """What no beamformer of these holders can exceed; 0: not computed."""
    payload_bytes: int
    wire_bytes: int
    """Bytes of all datagrams, with the headers of UDP, IP and Ethernet."""
    repair_bytes: int
    """Those of them beyond the first pass."""
    started_s: float
    ended_s: float
    blake3: str
    """Of what was sent, on which all holders agreed."""
    missed: tuple[int, ...] = ()
    """Users whom it did not reach in whole."""
    is_repair: bool = False
    """Not of the plan: what faults made necessary."""
    number: int = -1
    """Which of its slot's planned broadcasts it is, from 0, where some are on the air at once."""
    together: tuple[int, ...] = ()
    """Numbers of those of the slot that were on the air at some time while it was; none shares a user with
    it. `rate_bit_s` is the mean then."""
    alone_bit_s: float = 0.0
    """Rate that it would have with nothing beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """A model is on a device: every block and every file was hashed."""

    slot: int
    user: int
    model: str
    delay_s: float
    """From the start of the service to the last missing block, on the emulated clock as measured; where none
    was missing (`by_air`), from the word of what is coming to the device's knowing that it has all."""
    computed_delay_s: float
    """What the plan said."""
    wait_s: float
    """From the request to the word of what is coming: reports, planning, and slots it was not served, s."""
    received_bytes: int
    """Payload bytes that came by air for it."""
    unicast_weight_bytes: int
    """Bytes of blocks that came to the device in any other way."""
    files_sha256: str
    sha256_ok: bool
    inference_equal: bool | None = None
    answer: str = ""
    by_air: bool = True
    """Whether a block was missing when the device was told; else its own store had all."""
    lived_s: float = 0.0
    """From the request to the model whole and checked, as its user waits for it, s; 0: not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An unmodified client has loaded a model from a device's endpoint and run it."""

    slot: int
    user: int
    model: str
    inference_equal: bool | None
    unicast_weight_bytes: int
    """Bytes of blocks that the device had to get for it."""
    answer: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Somebody was given wrong bytes, saw it by their hash, and kept nothing."""

    slot: int
    place: str
    """`node N` or `device N`."""
    unit: int
    """-1: not known."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Faulted:
    """A fault was made."""

    slot: int
    fault: str
    place: str
    about: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a fault had broken works again."""

    slot: int
    fault: str
    place: str
    recovered_s: float
    """Since the fault, s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The run is over: the last line, with its sums."""

    requests: int
    deliveries: int
    origin_bytes: int
    """Payload bytes that came from the origin, for requests and caches."""
    backhaul_bytes: int
    """Payload bytes between nodes."""
    broadcast_bytes: int
    """Payload bytes on the air."""
    wire_bytes: int
    repair_bytes: int
    message_bytes: int
    """Bytes of reports between nodes."""


Event: TypeAlias = (
    Started
    | SlotBegan
    | Decided
    | Requested
    | Reported
    | Planned
    | Transferred
    | Broadcast
    | Delivered
    | Answered
    | Rejected
    | Faulted
    | Recovered
    | Ended
)
LATER: Mapping[type[Any], Mapping[str, Any]] = {Broadcast: {"number": -1, "together": (), "alone_bit_s": 0.0}}
"""Fields that came later, with what they are in older logs: a line on which they are that leaves them out."""
KINDS: Mapping[str, type[Any]] = {kind.__name__.lower(): kind for kind in get_args(Event)}
"""Class of each kind, by its name in the file."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    seq: int
    at_s: float
    """When it was written, s since the start, on the wall's clock."""
    event: Event

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"seq": self.seq, "at_s": round(self.at_s, 6), **to_dict(self.event)}


def kind_of(event: Event) -> str:
    """Name of an event's kind in the file."""
    return type(event).__name__.lower()


def to_dict(event: Event) -> dict[str, Any]:
    """An event as plain values, its kind first."""
    row = {"kind": kind_of(event), **asdict(event)}
    for name, nothing in LATER.get(type(event), {}).items():
        if row[name] == nothing:
            del row[name]
    return row


def from_dict(row: Mapping[str, Any]) -> Event:
    """An event out of what `to_dict` gave; fields that this version does not know are passed over.

    Raises:
        EventError: If it is no event of a known kind, or a field is missing or of another type.
    """
    kind = KINDS.get(str(row.get("kind")))
    if kind is None:
        raise EventError(f"expected a kind of event ({', '.join(KINDS)}), got {row.get('kind')!r}")
    event: Event = _made(kind, row, kind.__name__.lower())
    return event


def _made(kind: type[Any], row: Mapping[str, Any], where: str) -> Any:  # noqa: ANN401
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    values = {name: _value(hints[name], row[name], f"{where}.{name}") for name in known if name in row}
    try:
        return kind(**values)
    except TypeError as error:
        raise EventError(f"{where} is not whole: {error}") from None


def _value(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    """A value of the type that a field has, or an error."""
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise EventError(f"{where} must be a list, got {value!r:.60}")
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise EventError(f"{where} must be an object, got {value!r:.60}")
        return _made(hint, value, where)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise EventError(f"{where} must be an object, got {value!r:.60}")
        return dict(value)
    return _plain(get_args(hint) or (hint,), value, where)


def _plain(kinds: tuple[Any, ...], value: Any, where: str) -> Any:  # noqa: ANN401
    is_bool = isinstance(value, bool)
    if float in kinds and isinstance(value, int | float) and not is_bool:
        return float(value)
    for kind in kinds:
        if isinstance(value, kind) and (kind is bool or not is_bool):
            return value
    raise EventError(f"{where} must be {' or '.join(kind.__name__ for kind in kinds)}, got {value!r:.60}")
