"""`pbcast serve`: a store over HTTP, for clients of the Hugging Face Hub as they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import DEFAULT_STORE, StoreOption, existing
from demo.console import say

if TYPE_CHECKING:
    from pbstore import DiskBlockStore
    from pbstore.serve.http.guard import Guards

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
def serve(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8765,
    tokens: Annotated[Path | None, typer.Option(help="File of who may read and write.")] = None,
    access_log: Annotated[Path | None, typer.Option(help="Append a line of JSON for each request.")] = None,
) -> None:
    """Serve a store until Ctrl-C: point HF_ENDPOINT at the address that is shown."""
    from pbstore.serve import StoreLibrary, create_app
    from pbstore.serve import serve as run_server

    with existing(store) as opened:
        count = len(opened.models())
        guards = guards_of(opened, host, tokens, access_log)

        def tell(url: str) -> None:
            say(f"serving {count} models of {store} at {url}")

        run_server(create_app(StoreLibrary(opened), guards=guards), host, port, on_ready=tell)


def guards_of(store: "DiskBlockStore", host: str, tokens: Path | None, access_log: Path | None) -> "Guards":
    """Who may do what at an address: without tokens, only users of this machine may write."""
    from functools import partial

    from pbstore.serve.http.guard import Guards
    from pbstore.serve.http.guard_log import log_to
    from pbstore.serve.http.guard_tokens import TokenFile
    from pbstore.serve.http.metrics import Metrics, store_figures
    from pbstore.serve.run import is_loopback

    if access_log is not None:
        log_to(access_log)
    return Guards(
        tokens=None if tokens is None else TokenFile(tokens),
        anyone="write" if is_loopback(host) else "read",
        metrics=Metrics(partial(store_figures, store)),
    )
