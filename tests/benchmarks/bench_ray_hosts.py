"""A live edge on two hosts that are network namespaces of this machine: a Ray node in each, one wire between.

    python tests/benchmarks/bench_ray_hosts.py [--slots 3] [--listen 10.99.0.0/24]

Roles are spread over both; questions, blocks and the multicast air cross the wire. The disk is one, as no two
hosts have it. Needs Ray and namespaces. With --listen 127.0.0.1 the run is refused in one line, before a role
starts.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from demo.emulation.links import ShapedLinks, Wire, ensure_namespaces
from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Broadcast
from demo.emulation.runtime.addresses import AddressError
from demo.emulation.runtime.ray_actors import load_ray
from demo.jobs.emulate import LOG_NAME, emulate
from demo.jobs.emulate_config import EmulateConfig
from tests.benchmarks.live_family import make_family
from tests.demo.emulation.conftest import small_run

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"host0": "10.99.0.1", "host1": "10.99.0.2"}
PORT, START_S, LAYER_BYTES = 6399, 120.0, 1 << 14
ENTER = """
import os, sys
from demo.emulation.links import enter
enter(sys.argv[1])
os.execvp(sys.argv[2], sys.argv[2:])
"""


def inside(
    links: ShapedLinks, host: str, command: Sequence[str], log: Path | None
) -> subprocess.Popen[bytes]:
    """Start a program on a host; what it says goes to a log."""
    call = [sys.executable, "-c", ENTER, links.path(host), *command]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    if log is None:
        return subprocess.Popen(call, env=env)
    with log.open("wb") as file:
        return subprocess.Popen(call, env=env, stdout=file, stderr=subprocess.STDOUT)


@contextmanager
def cluster(links: ShapedLinks, folder: Path) -> Iterator[None]:
    """A Ray node on each host."""
    ray, own = str(Path(sys.executable).with_name("ray")), "--num-cpus=2"
    head, worker = HOSTS.values()
    first = [ray, "start", "--head", "--block", f"--node-ip-address={head}", f"--port={PORT}", own]
    first += ["--include-dashboard=false", f"--temp-dir={folder / 'a'}"]
    second = [ray, "start", "--block", f"--address={head}:{PORT}", f"--node-ip-address={worker}", own]
    started = [inside(links, "host0", first, folder / "head.log")]
    try:
        links.run("host1", lambda: wait_for_port(head))
        started.append(inside(links, "host1", second, folder / "worker.log"))
        yield
    finally:
        for one in started[::-1]:
            one.terminate()
        for one in started:
            one.wait()


def wait_for_port(address: str) -> None:
    """Until the cluster's head answers."""
    end = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection((address, PORT), 1.0).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def live(options: argparse.Namespace) -> None:
    """On the first host: wait for the second, then run."""
    ray, end = load_ray(), time.monotonic() + START_S
    address = f"{HOSTS['host0']}:{PORT}"
    ray.init(address=address, log_to_driver=False, configure_logging=False)
    while sum(node["Alive"] for node in ray.nodes()) < len(HOSTS) and time.monotonic() < end:
        time.sleep(0.2)
    with tempfile.TemporaryDirectory() as folder:
        out, store = Path(folder) / "out", make_family(Path(folder), LAYER_BYTES)
        config = EmulateConfig(
            run=small_run(store, slots=options.slots),
            loss=0.05,
            clients=0,
            runtime="ray",
            ray_address=address,
            listen=options.listen,
        )
        try:
            report = emulate(config, out, progress=False)
        except AddressError as error:
            print(error)
            return
        verdict = check_log(read_log(out / LOG_NAME))
        casts = [line.event for line in read_log(out / LOG_NAME) if isinstance(line.event, Broadcast)]
    print(f"hosts: {', '.join(HOSTS.values())}; roles listen in {options.listen}")
    print(f"deliveries: {len(report.deliveries)}, right: {report.good}, unserved: {verdict.unserved}")
    print(f"laws broken: {len(verdict.broken)}; broadcasts: {len(casts)}, missed by somebody: ", end="")
    print(sum(bool(one.missed) for one in casts), report.wire)


def main() -> None:
    """Build hosts and cluster, and run on the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--listen", default="10.99.0.0/24")
    parser.add_argument("--on-host", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.on_host:
        live(options)
        return
    ensure_namespaces()
    load_ray()  # which sets the token of the cluster for all
    wires = [Wire(role=host, network="lan", address=address) for host, address in HOSTS.items()]
    with ExitStack() as stack:
        links = stack.enter_context(ShapedLinks(wires))
        stack.enter_context(
            cluster(links, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="r"))))
        )
        again = [sys.executable, str(Path(__file__)), *sys.argv[1:], "--on-host"]
        code = inside(links, "host0", again, None).wait()
    sys.exit(code)


if __name__ == "__main__":
    main()
