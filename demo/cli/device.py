"""`pbcast device`: a cache of blocks on this device, for clients of Xet as they are."""

from pathlib import Path
from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import parse_size
from demo.console import say

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
def device(
    socket: Annotated[Path, typer.Option("--socket", help="Socket file; only this user can open it.")],
    edge: Annotated[str, typer.Option("--edge", help="Address of the edge node, http://HOST:PORT.")],
    cache: Annotated[Path, typer.Option("--cache", help="Folder of the blocks.")] = Path(
        "~/.cache/pbcast/device"
    ),
    capacity: Annotated[str, typer.Option("--capacity", help="Most bytes of blocks, such as 20GB.")] = "20GB",
) -> None:
    """Keep blocks that clients fetch until Ctrl-C: point HF_XET_CLIENT_UNIX_SOCKET_PATH at the socket."""
    from pbstore.serve.device import BlockCache, create_device_app
    from pbstore.serve.run import serve

    if not edge.startswith(("http://", "https://")):
        raise ValueError(f"expected --edge to be an address such as http://HOST:PORT, got {edge!r}")
    kept = BlockCache(cache.expanduser(), parse_size(capacity) or 0)

    def tell(address: str) -> None:
        say(f"caching blocks of {edge} in {cache}: HF_XET_CLIENT_UNIX_SOCKET_PATH={socket.absolute()}")

    serve(create_device_app(edge, kept), unix=socket, on_ready=tell)
