"""Roles on the nodes of a Ray cluster, one actor on each: one that is started here, or one there is.

Ray starts and ends roles, nothing else: what they say and send goes by the same wire as in every runtime. An
actor forks its roles: that takes milliseconds, where a worker of Ray for each would import for seconds.
"""

import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from demo.emulation.runtime import processes
from demo.emulation.runtime.addresses import LOOPBACK, AddressError, address_in, is_loopback
from demo.emulation.runtime.base import ORIGIN
from demo.emulation.runtime.processes import MakeRole, ProcessRuntime, Seat, get_ready

log = logging.getLogger(__name__)
START_S = processes.START_S + 120.0
"""How long a role may take to answer, with the actor before it, s."""
END_S = 30.0
"""How long roles may take to end, s."""
LOCAL = "local"
"""Address of a cluster that is started here, for this run."""
STORE_BYTES = 80 << 20
"""Of Ray's own store, which carries nothing; less is refused."""
QUESTIONS = 32
"""Roles that an actor starts and ends at the same time."""
_ACTORS: dict[tuple[str, tuple[str, ...], str], Any] = {}
"""Of this process's cluster, by host, preload and address."""
SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_gcs_server_port_wait_time_s": "300",
        "RAY_worker_niceness": "0",
        "RAY_worker_register_timeout_seconds": "300",
        "RAY_health_check_failure_threshold": "60",
    }
)
"""Asks for a token, tells nobody that it runs, and is patient: on a busy machine its parts start late."""


class RayMissingError(Exception):
    """Ray is not installed."""

    exit_code = 1

    def __str__(self) -> str:
        return "--runtime ray needs Ray, which is not installed: pip install 'pbcast[ray]'"


class RayStartError(Exception):
    """No cluster is started here, or none answers there."""

    exit_code = 1

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why)
        self.address, self.why = address, why

    def __str__(self) -> str:
        return f"Ray does not start at {self.address}: {' '.join(self.why.split())[:200]}"


def load_ray() -> Any:  # noqa: ANN401 - a module
    """Ray, set up to ask for a token and to tell nobody that it runs.

    Raises:
        RayMissingError: If it is not installed.
    """
    if find_spec("ray") is None:
        raise RayMissingError
    if "ray" not in sys.modules:  # it reads these when it is imported
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    return ray


class HostActor:
    """The roles of one host: processes, forked from one that has imported what they need.

    Args:
        preload: Modules that are imported once for all.
        listen: Address that roles listen at, or a network in which this host has one.
    """

    def __init__(self, preload: Sequence[str], listen: str) -> None:
        self._host, self._preload = address_in(listen), preload
        self._runs: dict[str, ProcessRuntime] = {}
        get_ready(preload)

    def start(self, run: str, make: MakeRole, place: str, comes_back: bool) -> str:
        """Be the host of a role of a run; its URL."""
        seat = Seat(self._host)
        runtime = self._runs.setdefault(run, ProcessRuntime(make, self._preload, lambda _: seat, self._host))
        runtime.make = make
        return runtime.start(place, comes_back=comes_back)

    def kill(self, run: str, place: str) -> None:
        """End a role at once."""
        self._runs[run].kill(place)

    def close(self, run: str) -> None:
        """End all roles of a run here."""
        if run in self._runs:
            self._runs.pop(run).close()

    def ping(self) -> None:
        """Answer."""


class RayRuntime:
    """Runs roles in processes of actors, one actor on each host of a cluster.

    A role that starts again is where it was, for its disk is there. In a cluster that this process was
    connected to before, actors go on after a run, and have the roles of the next.

    Args:
        make: Makes a role by its name, where the actor is; it must be picklable.
        preload: Modules that are imported once for all on each host.
        address: `local`, or that of a cluster.
        listen: Address that roles listen at, or a network in which every host has one.

    Raises:
        AddressError: If the cluster has several hosts, and roles would listen on their loopbacks.
        RayStartError: If the cluster does not start, or does not answer.
    """

    def __init__(
        self, make: MakeRole, preload: Sequence[str], address: str = LOCAL, listen: str = LOOPBACK
    ) -> None:
        self._ray, self._make, self._run = load_ray(), make, secrets.token_hex(8)
        self._actors: list[Any] = []
        self._scratch = ""
        self._owns = not self._ray.is_initialized()
        if self._owns:
            self._connect(address)
        nodes = [node for node in self._ray.nodes() if node["Alive"]]
        addresses = sorted({str(node["NodeManagerAddress"]) for node in nodes})
        if len(addresses) > 1 and is_loopback(listen):
            self.close()
            hosts = ", ".join(addresses)
            raise AddressError(
                f"roles on {hosts} do not reach one another at {listen}: ask for their network"
            )
        self.host = address_in(listen)
        here = str(self._ray.get_runtime_context().get_node_id())
        ids = sorted((str(node["NodeID"]) for node in nodes), key=lambda one: (one != here, one))
        self._actors = [self._actor_at(one, tuple(preload), listen) for one in ids]

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        started = self._actor_of(place).start.remote(self._run, self._make, place, comes_back)
        return str(self._ray.get(started, timeout=START_S))

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        with suppress(self._ray.exceptions.RayActorError):  # its host is gone, and it with it
            self._ray.get(self._actor_of(place).kill.remote(self._run, place), timeout=END_S)

    def close(self) -> None:
        """See `Runtime`; a cluster that was there before stays."""
        ended = [actor.close.remote(self._run) for actor in self._actors]
        if ended:
            self._ray.wait(ended, num_returns=len(ended), timeout=END_S)
        if self._owns:
            _ACTORS.clear()
            self._ray.shutdown()
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _actor_of(self, place: str) -> Any:  # noqa: ANN401
        """Nodes and devices go from host to host in turn; the origin is where its store is: here."""
        number = 0 if place == ORIGIN else int(place.split()[1])
        return self._actors[number % len(self._actors)]

    def _actor_at(self, node_id: str, preload: tuple[str, ...], listen: str) -> Any:  # noqa: ANN401
        """The actor of a host: one that lives, or a new one."""
        ray, key = self._ray, (node_id, preload, listen)
        with suppress(KeyError, ray.exceptions.RayActorError):
            ray.get(_ACTORS[key].ping.remote(), timeout=END_S)
            return _ACTORS[key]
        options = {"num_cpus": 0, "max_restarts": 0, "max_concurrency": QUESTIONS}
        there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)
        kind = ray.remote(HostActor).options(scheduling_strategy=there, **options)
        _ACTORS[key] = kind.remote(preload, listen)
        return _ACTORS[key]

    def _connect(self, address: str) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address == LOCAL:
            self._scratch = tempfile.mkdtemp(prefix="pbr")
            own = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_temp_dir": self._scratch}
            options = {**options, **own, "include_dashboard": False}
        try:
            self._ray.init(address=address, **options)
        except Exception as error:  # Ray says by plain ones that a part of it did not start in time
            self.close()
            raise RayStartError(address, str(error)) from error
