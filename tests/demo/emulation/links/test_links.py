"""Laws of shaped links, on the kernel of this machine: skipped where it lets nobody make namespaces."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.emulation.air import Heard, MulticastChannel, Receiver
from demo.emulation.links import (
    AIR,
    BACKHAUL,
    ORIGIN,
    ShapedLinks,
    Wire,
    abilities,
    device,
    edge_wires,
    node,
    rootless_command,
)
from demo.emulation.links.abilities import shaped_possible
from demo.emulation.links.namespaces import Namespace
from tests.demo.emulation.air.laws import cast_of, some_bytes

PORT = 47_000
BURST_BYTES = 160_000
"""At most so much goes at once: what the buckets of the links on the way hold."""


def may_make_namespaces() -> bool:
    try:
        Namespace().close()
    except OSError:
        return False
    return True


needs_namespaces = pytest.mark.skipif(not may_make_namespaces(), reason="no network namespaces here")


@pytest.fixture(scope="module")
def links() -> Iterator[ShapedLinks]:
    wires = edge_wires(2, 2, backhaul_bit_s=100e6, cloud_bit_s=40e6, air_bit_s=200e6)
    with ShapedLinks(wires) as built:
        yield built


def bit_s(links: ShapedLinks, source: str, target: str, size: int = 1_500_000) -> float:
    """Measured from one role to another, by TCP on the backhaul; lower on a busy machine, never higher."""
    address = (links.address(target, BACKHAUL), PORT)
    server = links.run(target, lambda: socket.create_server(address))
    client = links.run(source, lambda: socket.create_connection(address))
    with server, client, server.accept()[0] as end:
        sender = threading.Thread(target=client.sendall, args=[bytes(size)])
        start, left = time.monotonic(), size
        sender.start()
        while left:
            left -= len(end.recv(1 << 18))
        sender.join()
        return 8 * (size - BURST_BYTES) / (time.monotonic() - start)


def interfaces() -> dict[str, str]:
    return {one.name: (one / "address").read_text() for one in Path("/sys/class/net").iterdir()}


@needs_namespaces
def test_rates_are_the_plans_and_the_cloud_is_slower(links: ShapedLinks) -> None:
    assert bit_s(links, node(0), node(1)) < 1.1 * 100e6
    rates = [bit_s(links, ORIGIN, node(1))]
    while rates[-1] < 0.5 * 40e6 and len(rates) < 30:  # the machine may be busy
        rates.append(bit_s(links, ORIGIN, node(1)))
    assert 0.5 * 40e6 < max(rates) < 1.1 * 40e6


@needs_namespaces
def test_a_rate_changes_while_the_link_is_in_use(links: ShapedLinks) -> None:
    links.set_rate(node(0), BACKHAUL, down_bit_s=10e6)
    assert bit_s(links, ORIGIN, node(0), 700_000) < 1.2 * 10e6  # the cloud is not faster than the whole
    links.set_rate(node(0), BACKHAUL, down_bit_s=100e6)
    assert any(bit_s(links, node(1), node(0)) > 2 * 10e6 for _ in range(30))
    with pytest.raises(ValueError, match="without up_bit_s"):
        links.set_rate(node(0), BACKHAUL, up_bit_s=1e6)


@needs_namespaces
def test_a_broadcast_reaches_every_device_and_nothing_else_does(links: ShapedLinks) -> None:
    got, data, channels = list[Heard](), some_bytes(500_000), list[MulticastChannel]()
    for user in range(2):
        channels.append(MulticastChannel(PORT, interface=links.address(device(user), AIR)))
        with links.inside(device(user)):
            channels[-1].join(Receiver(user, got.append))
    sender = MulticastChannel(PORT, interface=links.address(node(1), AIR))
    before = links.traffic(node(1), AIR)
    with links.inside(node(1)):
        sent = sender.send(cast_of(data, 2, 0.05))
    for channel in channels:
        channel.close()

    assert not sent.missing
    assert [heard.data == data for heard in got] == [True, True]
    assert min(sent.delay_s.values()) >= 8 * len(data) / 1e8
    # A buffer of many datagrams counts as one with one header: the kernel's count is the smaller one.
    counted = links.traffic(node(1), AIR).sent_bytes - before.sent_bytes
    assert len(data) < counted <= sent.wire.ethernet_bytes + 1000
    with pytest.raises(OSError, match=r"unreachable|assign"), links.inside(node(0)):
        socket.create_connection(("192.0.2.1", 9), timeout=1)


@needs_namespaces
def test_counted_frame_by_frame_the_kernel_agrees_to_the_byte() -> None:
    wires = edge_wires(1, 1, backhaul_bit_s=1e8, cloud_bit_s=1e8, air_bit_s=1e9)
    with ShapedLinks(wires, whole_frames=True) as built:
        got, data = list[Heard](), some_bytes(300_000)
        channel = MulticastChannel(PORT, interface=built.address(device(0), AIR))
        with built.inside(device(0)):
            channel.join(Receiver(0, got.append))
        before = built.traffic(node(0), AIR)
        sender = MulticastChannel(PORT, interface=built.address(node(0), AIR))
        with built.inside(node(0)):
            sent = sender.send(cast_of(data, 1))
        counted = built.traffic(node(0), AIR).sent_bytes - before.sent_bytes
        channel.close()

    assert got[0].data == data
    assert abs(counted - sent.wire.ethernet_bytes) < 1500  # address look-ups and neighbour news beside it


@needs_namespaces
def test_a_role_that_is_cut_off_is_not_reached_until_it_is_mended(links: ShapedLinks) -> None:
    address = (links.address(node(0), BACKHAUL), PORT + 1)
    with links.run(node(0), lambda: socket.create_server(address)):
        links.cut(node(0), BACKHAUL)
        with pytest.raises(OSError, match=r"timed out|unreachable|No route"), links.inside(ORIGIN):
            socket.create_connection(address, timeout=0.3)
        links.mend(node(0), BACKHAUL)
        links.run(ORIGIN, lambda: socket.create_connection(address, timeout=60)).close()


@needs_namespaces
def test_a_process_enters_a_role_by_its_path(links: ShapedLinks) -> None:
    code = (
        "import sys; from demo.emulation.links.namespaces import enter; enter(sys.argv[1]);"
        "import socket; print(*[name for _, name in socket.if_nameindex()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, links.path(device(1))], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["lo", AIR]


@needs_namespaces
def test_the_machine_s_own_network_is_as_before() -> None:
    before, threads = interfaces(), threading.active_count()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with ShapedLinks(edge_wires(1, 1, backhaul_bit_s=1e8, cloud_bit_s=1e8, air_bit_s=1e8)):
        assert interfaces() == before
    assert interfaces() == before
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_abilities_say_what_is_there_and_what_is_not() -> None:
    tried = abilities()
    assert all(one.said for one in tried)
    assert shaped_possible(tried) or not may_make_namespaces()


@pytest.mark.slow
def test_who_is_not_root_has_shaped_links_in_a_user_namespace() -> None:
    plain = ["setpriv", "--bounding-set=-all,+setfcap"] if os.getuid() == 0 else []  # root without rights
    if plain and not shutil.which(plain[0]):
        pytest.skip("no setpriv to give up root's rights")
    call = [*plain, *rootless_command("-m", "demo.emulation.links.abilities")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if "user namespaces" in done.stderr:
        pytest.skip("nobody may make user namespaces here")
    tried = json.loads(done.stdout)

    assert all(one["ok"] for one in tried)
    assert len(tried) == 4


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda: edge_wires(0, 1, backhaul_bit_s=1e9, cloud_bit_s=1e9, air_bit_s=1e9), "nodes"),
        (lambda: edge_wires(1, 1, backhaul_bit_s=0, cloud_bit_s=1e9, air_bit_s=1e9), "rates"),
        (lambda: ShapedLinks([Wire(role="a", network="n", address="10.0.0.1")] * 2), "one wire"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(act: "object", said: str) -> None:
    with pytest.raises(ValueError, match=said):
        act()  # type: ignore[operator]
