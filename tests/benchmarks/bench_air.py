"""What a broadcast costs: Ethernet bytes beside unicast, processor time, memory, delay beside computed.

    python tests/benchmarks/bench_air.py [--quick] [--only wire cpu memory rounds delay] [--json FILE]

wire: one object to 1, 4 and 12 devices in network namespaces, counted by the sender and, frame by frame, by
the kernel (no buffer of several datagrams onto the wire); TCP to each of them beside it. cpu: process time of
a sender on loopback whose one receiver is another process; coded: as many repair symbols as a broadcast
without feedback needs at 5 % loss, 7 to 8 %. memory: peak of a process that sends a file. rounds: datagrams
dropped, doubled, reordered and damaged by a seed. delay: start to last bit, on wires that the kernel shapes
to the rate, over payload bits by rate; the machine's load is printed beside it.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.emulation.air import AirSettings, BytesPayload, Cast, FilePayload, MulticastChannel, Receiver
from demo.emulation.air.pace import Pacer
from demo.emulation.air.sender import Batch, Sender
from demo.emulation.air.sockets import Outlet
from demo.emulation.links import AIR, ShapedLinks, device, edge_wires, node
from tests.demo.emulation.air.laws import SMALL, Spoil, cast_of, deliver

PORT = 47_900
GROUP = "239.192.7.9"
MB = 1_000_000
LOSS = 0.05
PIECES = (2 << 20, 4 << 20)


def random_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that nothing can compress."""
    return np.random.default_rng(seed).bytes(size)


@contextmanager
def listening(links: ShapedLinks, users: int, settings: AirSettings) -> Iterator[list[bytes]]:
    """Devices that hear the air; what they were handed."""
    got: list[bytes] = []
    with ExitStack() as stack:
        for user in range(users):
            address = links.address(device(user), AIR)
            channel = MulticastChannel(PORT, group=GROUP, interface=address, settings=settings)
            with links.inside(device(user)):
                channel.join(Receiver(user, lambda heard: got.append(heard.read()), seed=1))
            stack.callback(channel.close)
        yield got


def wire(size: int, rate_bit_s: float) -> Iterator[dict[str, object]]:
    """Ethernet bytes over payload bytes."""
    data = random_bytes(size)
    plan = edge_wires(1, 12, backhaul_bit_s=1e9, cloud_bit_s=1e9, air_bit_s=1.2 * rate_bit_s)
    with ShapedLinks(plan, whole_frames=True) as links:
        for piece_bytes in PIECES:
            settings = AirSettings(piece_bytes=piece_bytes)
            for loss in (0.0, LOSS):
                for users in (1, 4, 12):
                    yield one_wire(links, data, users, loss, rate_bit_s, settings)
        for users in (1, 4, 12):
            before = links.traffic(node(0), AIR)
            for user in range(users):
                tcp(links, user, data)
            counted = links.traffic(node(0), AIR).sent_bytes - before.sent_bytes
            yield {"what": "TCP to each", "users": users, "kernel": round(counted / size, 4)}


def one_wire(
    links: ShapedLinks, data: bytes, users: int, loss: float, rate_bit_s: float, settings: AirSettings
) -> dict[str, object]:
    """One broadcast."""
    interface = links.address(node(0), AIR)
    channel = MulticastChannel(PORT, group=GROUP, interface=interface, settings=settings)
    cast = Cast(
        cast_id=users, payload=BytesPayload(data), users=frozenset(range(users)), rate_bit_s=rate_bit_s,
        loss=dict.fromkeys(range(users), loss) if loss else {},
    )  # fmt: skip
    with listening(links, users, settings) as got:
        before = links.traffic(node(0), AIR)
        with links.inside(node(0)):
            sent = channel.send(cast)
        counted = links.traffic(node(0), AIR).sent_bytes - before.sent_bytes
    if got != [data] * users or sent.missing:
        raise SystemExit(f"wrong: {len(got)} of {users} delivered, {sent.missing} missing")
    return {
        "what": f"broadcast, {settings.piece_bytes >> 20} MiB pieces",
        "users": users,
        "loss": loss,
        "ours": round(sent.wire.ethernet_bytes / len(data), 4),
        "kernel": round(counted / len(data), 4),
        "answers": round(sent.wire.feedback_bytes / len(data), 5),
        "rounds": sent.rounds,
    }


def tcp(links: ShapedLinks, user: int, data: bytes) -> None:
    """The same bytes to one device by TCP."""
    where = (links.address(device(user), AIR), PORT)
    server = links.run(device(user), lambda: socket.create_server(where))
    client = links.run(node(0), lambda: socket.create_connection(where))
    with server, client, server.accept()[0] as end:
        sender = threading.Thread(target=client.sendall, args=[data])
        sender.start()
        left = len(data)
        while left:
            left -= len(end.recv(1 << 18))
        sender.join()


def receive(ready: Event, over: Event) -> None:
    """A process with one receiver."""
    channel = MulticastChannel(PORT, group=GROUP)
    with tempfile.TemporaryDirectory() as folder:
        channel.join(Receiver(0, lambda heard: heard.path and heard.path.unlink(), folder=Path(folder)))
        ready.set()
        over.wait()
        channel.close()


def cpu(size: int, rate_bit_s: float) -> Iterator[dict[str, object]]:
    """Megabytes of payload that a sender sends in a second of processor time."""
    payload = BytesPayload(random_bytes(size))
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    process = context.Process(target=receive, args=(ready, over))
    process.start()
    ready.wait()
    for piece_bytes in PIECES:
        for loss in (0.0, LOSS):
            yield sent_cpu(payload, loss, rate_bit_s, piece_bytes)
    over.set()
    process.join()


def sent_cpu(payload: BytesPayload, loss: float, rate_bit_s: float, piece_bytes: int) -> dict[str, object]:
    """One broadcast without feedback, so that a slow receiver does not change what is sent."""
    settings = AirSettings(piece_bytes=piece_bytes)
    outlet = Outlet((GROUP, PORT), "127.0.0.1", settings)
    losses = {0: loss} if loss else {}
    cast = Cast(
        cast_id=piece_bytes + bool(loss), payload=payload, users=frozenset({0}), rate_bit_s=rate_bit_s,
        loss=losses, feedback=False,
    )  # fmt: skip
    pacer, begun = Pacer(rate_bit_s, settings.credit_bytes), time.process_time()
    for batch in Sender(cast, settings).run():
        if isinstance(batch, Batch):
            pacer.wait(len(batch.data))
            outlet.put(batch)
    spent = time.process_time() - begun
    outlet.close()
    what = f"{'coded' if loss else 'uncoded'}, {piece_bytes >> 20} MiB pieces"
    return {"what": what, "MB_per_cpu_s": round(payload.size_bytes / spent / MB)}


def send_file(path: str, loss: float, peak_mb: "multiprocessing.Queue[float]") -> None:
    """A process that sends a file and says its peak memory."""
    settings = AirSettings()
    payload = FilePayload(Path(path))
    cast = Cast(
        cast_id=1, payload=payload, users=frozenset({0}), rate_bit_s=4e9, loss={0: loss}, feedback=False
    )
    outlet = Outlet((GROUP, PORT + 1), "127.0.0.1", settings)
    for batch in Sender(cast, settings).run():
        if isinstance(batch, Batch):
            outlet.put(batch)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_mb.put(int(lines["VmHWM"].split()[0]) / 1024)  # getrusage would count the parent before the exec


def memory(size: int) -> Iterator[dict[str, object]]:
    """Peak memory of a sender."""
    piece = random_bytes(4 << 20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        with path.open("wb") as file:
            for number in range(size // len(piece)):
                file.write(number.to_bytes(8, "big") + piece[8:])
        context = multiprocessing.get_context("spawn")
        for loss in (0.0, LOSS):
            peak = context.Queue()
            process = context.Process(target=send_file, args=(str(path), loss, peak))
            process.start()
            yield {
                "what": f"sending {path.stat().st_size / MB:.0f} MB, loss {loss}",
                "peak_MB": round(peak.get()),
            }
            process.join()


def rounds(count: int) -> Iterator[dict[str, object]]:
    """Spoiled rounds in memory: wrong deliveries and users that were not served."""
    wrong = unserved = 0
    for seed in range(count):
        data = random_bytes(1 + 997 * seed, seed)
        steady = AirSettings(
            mtu_bytes=SMALL.mtu_bytes, piece_bytes=SMALL.piece_bytes, patience=200, max_stalls=200
        )
        spoil = Spoil(seed, 0.05 * (1 + seed % 5))
        sent, got = deliver(cast_of(data, 3), seed=seed, settings=steady, spoil=spoil)
        wrong += sum(one != data for some in got.values() for one in some)
        unserved += 3 - len(got) + len(sent.missing)
    yield {"what": f"{count} spoiled rounds, 3 users", "wrong": wrong, "unserved": unserved}


def delay(count: int, users: int, rate_bit_s: float) -> Iterator[dict[str, object]]:
    """Measured over computed delay."""
    rng = np.random.default_rng(5)
    plan = edge_wires(1, users, backhaul_bit_s=1e9, cloud_bit_s=1e9, air_bit_s=2 * rate_bit_s)
    settings = AirSettings()
    with ShapedLinks(plan) as links, listening(links, users, settings):
        channel = MulticastChannel(
            PORT, group=GROUP, interface=links.address(node(0), AIR), settings=settings
        )
        for loss in (0.0, LOSS):
            ratios: list[float] = []
            while len(ratios) < count:
                size = int(np.exp(rng.uniform(np.log(200_000), np.log(8_000_000))))
                rate = rate_bit_s * float(rng.uniform(0.3, 1.0))
                links.set_rate(node(0), AIR, up_bit_s=1.5 * rate)
                cast = Cast(
                    cast_id=len(ratios), payload=BytesPayload(rng.bytes(size)), rate_bit_s=rate,
                    users=frozenset(range(users)), loss=dict.fromkeys(range(users), loss),
                )  # fmt: skip
                with links.inside(node(0)):
                    sent = channel.send(cast)
                ratios += [seconds * rate / 8 / size for seconds in sent.delay_s.values()]
            median, high = statistics.median(ratios), statistics.quantiles(ratios, n=20)[-1]
            what = f"{len(ratios)} deliveries, loss {loss}, load {os.getloadavg()[0]:.0f}"
            yield {
                "what": what,
                "median": round(median, 3),
                "p95": round(high, 3),
                "worst": round(max(ratios), 3),
            }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", nargs="+", metavar="PART", help="wire, cpu, memory, rounds, delay")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    options = parser.parse_args()
    quick = options.quick
    parts: dict[str, Callable[[], Iterator[dict[str, object]]]] = {
        "wire": lambda: wire((12 if quick else 64) * MB, 100e6 if quick else 200e6),
        "cpu": lambda: cpu((128 if quick else 1024) * MB, 2e9),
        "memory": lambda: memory((256 if quick else 1024) * MB),
        "rounds": lambda: rounds(100),
        "delay": lambda: delay(48 if quick else 240, 3, 50e6),
    }
    rows = []
    for name, part in parts.items():
        if not options.only or name in options.only:
            for row in part():
                rows.append({"part": name, **row})
                print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
