"""Whether the server is there."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from pbstore.serve.http.context import Context, context_of


def routes(context: Context) -> Sequence[BaseRoute]:
    """`GET /healthz`."""
    return (Route("/healthz", _healthz, methods=["GET"]),)


async def _healthz(request: Request) -> JSONResponse:
    names = await context_of(request).library.names()
    return JSONResponse({"status": "ok", "models": len(names)})
