"""`pbcast serve`: a store over HTTP, for clients of the Hugging Face Hub as they are."""

from typing import Annotated

import typer

from demo.cli.app import EXIT_CODES
from demo.cli.store_shared import DEFAULT_STORE, StoreOption, existing
from demo.console import say

app = typer.Typer(add_completion=False)


@app.command(epilog=EXIT_CODES)
def serve(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for one that is free.")] = 8765,
) -> None:
    """Serve a store until Ctrl-C: point HF_ENDPOINT at the address that is shown."""
    from pbstore.serve import StoreLibrary, create_app
    from pbstore.serve import serve as run_server

    with existing(store) as opened:
        count = len(opened.models())

        def tell(url: str) -> None:
            say(f"serving {count} models of {store} at {url}")

        run_server(create_app(StoreLibrary(opened)), host, port, on_ready=tell)
