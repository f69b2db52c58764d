"""What this kernel has of what shaped links and a fast air need: each thing is tried out, not looked up."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from demo.emulation.air.sockets import can_join, can_segment
from demo.emulation.links.namespaces import Namespace
from demo.emulation.links.rootless import command
from demo.emulation.links.shaping import shape_down, shape_up

_PATIENCE_S = 20.0
_RATE_BIT_S = 1e8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """One thing that was tried."""

    name: str
    ok: bool
    said: str


def abilities() -> list[Ability]:
    """What works: in this process if it may make namespaces, else in a child that is root of its own."""
    fast = [
        Ability(name="air UDP_SEGMENT", ok=can_segment(), said="the kernel cuts buffers into datagrams"),
        Ability(name="air UDP_GRO", ok=can_join(), said="the kernel joins datagrams into buffers"),
    ]
    try:
        Namespace().close()
    except OSError:
        return fast + _rootless()
    return [*fast, Ability(name="links namespaces", ok=True, said="may be made by this process"), *links()]


def links() -> list[Ability]:
    """What shaped links need, tried in a namespace of its own."""
    inside = Namespace()
    try:
        return inside.run(_tried)
    finally:
        inside.close()


def shaped_possible(tried: list[Ability]) -> bool:
    """Whether all is there that shaped links need."""
    return all(one.ok for one in tried if one.name.startswith("links"))


def _rootless() -> list[Ability]:
    """The same, in a child that is root of its own namespaces."""
    call = command("-m", "demo.emulation.links.abilities")
    try:
        done = subprocess.run(call, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        tried = [Ability(**one) for one in json.loads(done.stdout)] if done.returncode == 0 else []
        said = "may be made in a user namespace" if tried else done.stderr.strip()[-200:]
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        tried, said = [], str(error)
    return [Ability(name="links namespaces", ok=bool(tried), said=said), *tried]


def _tried() -> list[Ability]:
    with IPRoute() as route:
        return [
            _try("veth", lambda: route.link("add", ifname="a", kind="veth", peer={"ifname": "b"})),
            _try("bridge", lambda: route.link("add", ifname="c", kind="bridge", br_mcast_snooping=0)),
            _try("tbf", lambda: shape_up(route, _dummy(route, "a"), _RATE_BIT_S)),
            _try(
                "htb and u32", lambda: shape_down(route, _dummy(route, "b"), _RATE_BIT_S, {"10.0.0.1": 1e7})
            ),
        ]


def _dummy(route: IPRoute, name: str) -> int:
    return int(next(iter(route.link_lookup(ifname=name))))


def _try(name: str, act: Callable[[], object]) -> Ability:
    try:
        act()
    except (NetlinkError, StopIteration, OSError) as error:
        return Ability(name=f"links {name}", ok=False, said=f"absent: {error}")
    return Ability(name=f"links {name}", ok=True, said="works")


if __name__ == "__main__":
    json.dump([asdict(one) for one in links()], sys.stdout)
