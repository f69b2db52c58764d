"""The runtime that a live edge is to run in, with what makes its roles."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from demo.emulation.links import AIR, ShapedLinks, Wire, edge_wires
from demo.emulation.runtime.addresses import address_in
from demo.emulation.runtime.base import ORIGIN, Runtime, device_place, node_place
from demo.emulation.runtime.processes import ProcessRuntime, Seat, get_ready
from demo.emulation.runtime.shaped import ShapedRuntime, role_of
from demo.emulation.runtime.threads import ThreadRuntime
from demo.emulation.wire.token import run_token
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.stage import ProcessRoles, Stage, ThreadRoles
from pbstore import DiskBlockStore
from policy.schemes import HOMES

PRELOAD = (
    "demo.jobs.stage",
    "policy.serving.search",
    "pbstore.serve.run",
    "pbstore.codecs",
    "raptorq",
    "anyio._backends._asyncio",
    "encodings.idna",
    "httpcore",
    "uvicorn.lifespan.on",
)
"""What roles need, imported once for all: the compiled search, and what a first question would import."""
AIR_BIT_S = 1e10
"""Of a node's link to the air before its first broadcast."""


class _Roles(Protocol):
    origin_url: str


def preload_of(config: EmulateConfig) -> tuple[str, ...]:
    """Modules that the roles of a run need."""
    home = HOMES.get(re.split("[:+]", config.run.emulated_scheme)[0])
    return PRELOAD if home is None else (*PRELOAD, f"policy.schemes.{home.partition(':')[0]}")


def warm_up(config: EmulateConfig) -> None:
    """Begin with what takes long before roles can start, beside whatever else is to be done before."""
    if config.runtime == "processes":
        get_ready(preload_of(config))


@contextmanager
def runtime_of(stage: Stage, store: DiskBlockStore) -> Iterator[Runtime]:
    """What starts the roles of a run, with the links that it has them on.

    Args:
        stage: What they are made of.
        store: The origin's store; in other processes it is opened again, to read.

    Raises:
        OSError: If links are to be shaped and this process may not make namespaces.
    """
    with run_token() as token, _runtime(stage, store, token) as runtime:
        yield runtime


@contextmanager
def _runtime(stage: Stage, store: DiskBlockStore, token: str) -> Iterator[Runtime]:
    if stage.config.runtime == "threads":
        roles = ThreadRoles(stage, store)
        yield OriginFirst(ThreadRuntime(roles, address_in(stage.config.listen)), roles)
        return
    spread, preload = ProcessRoles(stage, store.path, _free_port(), token), preload_of(stage.config)
    if stage.config.runtime == "ray":
        from demo.emulation.runtime.ray_actors import RayRuntime

        config = stage.config
        yield OriginFirst(RayRuntime(spread, preload, config.ray_address, config.listen), spread)
        return
    if stage.config.links == "plain":
        host = address_in(stage.config.listen)
        yield OriginFirst(ProcessRuntime(spread, preload, lambda place: Seat(host), host), spread)
        return
    with ShapedLinks(wires_of(stage)) as links:
        spread.air_of = {place: links.address(role_of(place), AIR) for place in _on_air(stage)}
        runtime = ShapedRuntime(spread, preload, links)
        with runtime.in_control():
            yield OriginFirst(runtime, spread)


def wires_of(stage: Stage) -> list[Wire]:
    """The scenario's network, at the run's pace."""
    config, pace = stage.scenario.config, stage.config.pace
    return edge_wires(
        config.num_nodes,
        config.num_users,
        backhaul_bit_s=pace * config.links.backhaul_bit_s,
        cloud_bit_s=pace * config.links.cloud_bit_s,
        air_bit_s=AIR_BIT_S,
    )


def _on_air(stage: Stage) -> list[str]:
    config = stage.scenario.config
    return [*map(node_place, range(config.num_nodes)), *map(device_place, range(config.num_users))]


class OriginFirst:
    """Tells those that make roles where the origin is, as soon as that is known."""

    def __init__(self, inner: Runtime, roles: _Roles) -> None:
        self.host = inner.host
        self._inner, self._roles = inner, roles

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        url = self._inner.start(place, comes_back=comes_back)
        if place == ORIGIN:
            self._roles.origin_url = url
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        self._inner.kill(place)

    def close(self) -> None:
        """See `Runtime`."""
        self._inner.close()


def _free_port() -> int:
    """A UDP port that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
