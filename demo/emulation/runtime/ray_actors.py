"""Each role as a Ray actor, on the nodes of a cluster: one that is started here, or one that runs already.

Ray starts and ends roles, nothing else: what they say and send goes by the same wire as in every runtime.
"""

import logging
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from demo.emulation.runtime.addresses import LOOPBACK, AddressError, address_in, is_loopback
from demo.emulation.runtime.base import ORIGIN, port_of
from demo.emulation.runtime.heap import few_arenas
from demo.emulation.runtime.threads import Role
from pbstore.serve.run import serving

log = logging.getLogger(__name__)
START_S = 180.0
"""How long an actor may take to answer, s."""
LOCAL = "local"
"""Address of a cluster that is started here, for this run."""
MakeRole = Callable[[str, bool], Role]


class RayMissingError(Exception):
    """Ray is not installed."""

    exit_code = 1

    def __str__(self) -> str:
        return "--runtime ray needs Ray, which is not installed: pip install 'pbcast[ray]'"


def load_ray() -> Any:  # noqa: ANN401 - a module
    """Ray, set up to ask for a token and to tell nobody that it runs.

    Raises:
        RayMissingError: If it is not installed.
    """
    if find_spec("ray") is None:
        raise RayMissingError
    if "ray" not in sys.modules:  # it reads these when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    return ray


class RoleActor:
    """A role in a worker of Ray."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def start(self, make: MakeRole, place: str, comes_back: bool, listen: str, port: int) -> str:
        """Be a role, at the address that this host has there; its URL."""
        few_arenas()
        role, host = make(place, comes_back), address_in(listen)
        self._stack.callback(role.close)
        return self._stack.enter_context(serving(role.app, host, port))

    def stop(self) -> None:
        """End the role."""
        self._stack.close()


class RayRuntime:
    """Runs roles as actors.

    Args:
        make: Makes a role by its name, where the actor is.
        address: `local`, or that of a cluster.
        listen: Address that roles listen at, or a network in which every host has one.

    Raises:
        AddressError: If the cluster has several hosts, and roles would listen on their loopbacks.
    """

    def __init__(self, make: MakeRole, address: str = LOCAL, listen: str = LOOPBACK) -> None:
        self._ray, self._make = load_ray(), make
        self._owns = not self._ray.is_initialized()
        if self._owns:
            self._connect(address)
        self._actors: dict[str, Any] = {}
        self._ports: dict[str, int] = {}
        self._mutex = threading.Lock()
        addresses = {str(node["NodeManagerAddress"]) for node in self._ray.nodes() if node["Alive"]}
        if len(addresses) > 1 and is_loopback(listen):
            hosts = ", ".join(sorted(addresses))
            self.close()
            raise AddressError(
                f"roles on {hosts} do not reach one another at {listen}: ask for their network"
            )
        self._listen, self.host = listen, address_in(listen)

    def start(self, place: str, *, comes_back: bool = False) -> str:
        """See `Runtime`."""
        actor = self._new_actor(place)
        port = self._ports.get(place, 0)
        started = actor.start.remote(self._make, place, comes_back, self._listen, port)
        url = str(self._ray.get(started, timeout=START_S))
        with self._mutex:
            self._actors[place], self._ports[place] = actor, port_of(url)
        return url

    def kill(self, place: str) -> None:
        """See `Runtime`."""
        with self._mutex:
            actor = self._actors.pop(place, None)
        if actor is not None:
            self._ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """See `Runtime`; a cluster that was there before stays."""
        for actor in self._actors.values():
            actor.stop.remote()
        for place in list(self._actors):
            self.kill(place)
        if self._owns:
            self._ray.shutdown()

    def _new_actor(self, place: str) -> Any:  # noqa: ANN401
        """An actor anywhere in the cluster; that of the origin where the origin's store is: here."""
        ray, options = self._ray, {"num_cpus": 0, "max_restarts": 0, "max_concurrency": 2}
        if place == ORIGIN:
            here = ray.get_runtime_context().get_node_id()
            strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        else:
            strategy = "SPREAD"
        return ray.remote(RoleActor).options(scheduling_strategy=strategy, **options).remote()

    def _connect(self, address: str) -> None:
        options = {"log_to_driver": False, "include_dashboard": False, "configure_logging": False}
        if address != LOCAL:
            del options["include_dashboard"]
            self._ray.init(address=address, **options)
            return
        folder = tempfile.mkdtemp(prefix="pbr", dir=Path(tempfile.gettempdir()))
        self._ray.init(address=LOCAL, num_cpus=os.cpu_count(), _temp_dir=folder, **options)
