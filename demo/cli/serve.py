"""`pbcast serve`: a store over HTTP, for clients of the Hugging Face Hub as they are."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import (
    DEFAULT_STORE,
    SizeOption,
    StoreOption,
    TokenOption,
    existing,
    parse_size,
    some_of,
)
from demo.console import counted, say, warn
from pbstore import open_store

if TYPE_CHECKING:
    from pbstore import DiskBlockStore
    from pbstore.serve import Library
    from pbstore.serve.app import Beside
    from pbstore.serve.http.context import AskPeers, Holders, RouteGroup
    from pbstore.serve.http.guard import Guards

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
def serve(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8765,
    tokens: Annotated[Path | None, typer.Option(help="File of who may read and write.")] = None,
    access_log: Annotated[Path | None, typer.Option(help="Append a line of JSON for each request.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="URL of a node to ask for what is not here.")] = None,
    upstream: Annotated[str | None, typer.Option(help="URL of a node that has or gets everything.")] = None,
    capacity: SizeOption = None,
    token: TokenOption = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="File with a key that the peers share: clients get blocks from them, too, by these URLs."
        ),
    ] = None,
    index_chunks: Annotated[
        bool,
        typer.Option(
            "--index-chunks", help="Know all models by their chunks: pushes of their fine-tunes cost less."
        ),
    ] = False,
) -> None:
    """Serve a store until Ctrl-C: point HF_ENDPOINT at the address that is shown.

    With --peer or --upstream the store may be empty: what is missing is fetched, and kept within --capacity.
    """
    from pbstore.serve import create_app
    from pbstore.serve import serve as run_server
    from pbstore.serve.fetch.local import StoreSink
    from pbstore.serve.http.blocks import put_routes

    node = NodeOptions(tuple(peer or ()), upstream, token)
    node.check(capacity, key)
    with open_store(store, parse_size(capacity)) if node.has_others else existing(store) as opened:
        count = len(opened.models())
        guards = guards_of(opened, host, tokens, access_log, key)
        library = library_of(opened, node, guards)

        hidden = [name for name in opened.models() if name.count("/") > 1]

        def tell(url: str) -> None:
            if hidden:
                names = ", ".join(some_of(hidden))
                warn(f"pbcast: clients of the Hub ask for ORG/MODEL only (`store rename`), not for {names}")
            say(f"serving {counted(count, 'model')} of {store}{node.behind} at {url}")

        groups, beside = pushing(opened, library, index_chunks)
        groups = [put_routes(StoreSink(opened)), *groups]
        app = create_app(library, guards=guards, groups=groups, beside=beside, **sending_on(library, key))
        run_server(app, host, port, on_ready=tell)


@dataclass(frozen=True)
class NodeOptions:
    """The nodes around one."""

    peers: tuple[str, ...]
    upstream: str | None
    token: str | None

    @property
    def has_others(self) -> bool:
        """Whether there are any."""
        return bool(self.peers) or self.upstream is not None

    @property
    def behind(self) -> str:
        """Where more comes from, in words; empty if from nowhere."""
        peers = [f"{len(self.peers)} peer{'s' * (len(self.peers) > 1)}"] if self.peers else []
        others = [*([] if self.upstream is None else [self.upstream]), *peers]
        return f", and what {' and '.join(others)} can give," if others else ""

    def check(self, capacity: str | None, key: Path | None) -> None:
        """Refuse what cannot be meant, before a store is made, and say which options do nothing.

        Raises:
            ValueError: If an address is none, a size is none, or there is a key but nobody to share it with.
        """
        from pbstore.serve.fetch.http_source import check_url
        from pbstore.serve.fetch.object_store import is_origin

        parse_size(capacity)
        for url in (*self.peers, *([self.upstream] if self.upstream is not None else [])):
            if url in self.peers or not is_origin(url):
                check_url(url)
        if key is not None and not self.peers:
            raise ValueError("--key is for nodes that share it: name them, too, by --peer URL")
        if capacity is not None and not self.has_others:
            warn("pbcast: --capacity bounds what is fetched, and nothing is without --peer or --upstream")


def library_of(store: "DiskBlockStore", node: NodeOptions, guards: "Guards") -> "Library":
    """What is served: a store, with what others have if there are others."""
    from pbstore.serve import StoreLibrary
    from pbstore.serve.fetch.node import NodeLibrary

    if not node.has_others:
        return StoreLibrary(store)
    return NodeLibrary(
        store, peers=node.peers, upstream=node.upstream, meter=guards.metrics, token=node.token
    )


class SendingOn(TypedDict, total=False):
    """Arguments of `create_app` by which clients are sent to other nodes."""

    holders: "Holders"
    ask_peers: "AskPeers"


def sending_on(library: "Library", key: Path | None) -> SendingOn:
    """Whom clients are sent to: peers with the same key; without one they would take no signed address."""
    from pbstore.serve.fetch.node import NodeLibrary

    if key is None or not isinstance(library, NodeLibrary):
        return {}
    return {"holders": library.before_me, "ask_peers": library.ask_peers}


def pushing(
    store: "DiskBlockStore", library: "Library", index_chunks: bool
) -> "tuple[list[RouteGroup], list[Beside]]":
    """What takes pushes of Hub clients into a store, if it can be written to; and what learns its chunks."""
    from pbstore.serve.fetch.node import NodeLibrary
    from pbstore.serve.http.push import push_routes
    from pbstore.serve.library import StoreLibrary
    from pbstore.serve.push import Intake

    own = library.inner if isinstance(library, NodeLibrary) else library
    if store.disk.read_only or not isinstance(own, StoreLibrary):
        return [], []
    intake = Intake(store, own)
    return [push_routes(intake)], [intake.chunk_index().running] if index_chunks else []


def guards_of(
    store: "DiskBlockStore", host: str, tokens: Path | None, access_log: Path | None, key: Path | None = None
) -> "Guards":
    """Who may do what at an address: without tokens, only users of this machine may write."""
    from functools import partial

    from pbstore.serve.http.guard import Guards
    from pbstore.serve.http.guard_key import signer_of
    from pbstore.serve.http.guard_log import log_to
    from pbstore.serve.http.guard_tokens import TokenFile
    from pbstore.serve.http.metrics import Metrics, store_figures
    from pbstore.serve.run import is_loopback
    from pbstore.serve.wire.signed import Signer

    if access_log is not None:
        log_to(access_log)
    return Guards(
        tokens=None if tokens is None else TokenFile(tokens),
        signer=Signer.fresh() if key is None else signer_of(key),
        anyone="write" if is_loopback(host) else "read",
        metrics=Metrics(partial(store_figures, store)),
    )
