"""Who there is beside a node, and how it asks them."""

import logging
from collections.abc import Mapping
from typing import Any

from demo.emulation.wire.ask import NotReachedError, Wire

log = logging.getLogger(__name__)


class Neighbours:
    """Where everybody is; safe to use from many threads once all are known.

    Args:
        wire: How they are asked.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.nodes: dict[int, str] = {}
        self.devices: dict[int, str] = {}

    def meet(self, question: Mapping[str, Any]) -> None:
        """Learn it."""
        self.nodes = {int(node): str(url) for node, url in question["nodes"].items()}
        self.devices = {int(user): str(url) for user, url in question["devices"].items()}

    def others(self, me: int) -> dict[int, str]:
        """All nodes but one."""
        return {node: url for node, url in self.nodes.items() if node != me}

    def ask_node(
        self,
        node: int,
        verb: str,
        patience_s: float = 20.0,
        **question: Any,  # noqa: ANN401
    ) -> dict[str, Any] | None:
        """A node's answer; None if there is none."""
        return self._ask(self.nodes.get(node), verb, patience_s, question)

    def ask_device(
        self,
        user: int,
        verb: str,
        patience_s: float = 20.0,
        **question: Any,  # noqa: ANN401
    ) -> dict[str, Any] | None:
        """A device's answer; None if there is none."""
        return self._ask(self.devices.get(user), verb, patience_s, question)

    def _ask(
        self, url: str | None, verb: str, patience_s: float, question: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        try:
            return None if url is None else self._wire.ask(url, verb, patience_s, **question)
        except NotReachedError as error:
            log.info("%s", error)
            return None
