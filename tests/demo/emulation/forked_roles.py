"""A program whose roles tell what they are: run by a test, in a process of its own."""

import json
import os
import sys

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

if "main" in __name__:
    sys.stderr.write("the main program runs\n")


class Teller:
    """A role that says which process it is, and what that has imported."""

    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/", self.tell)])

    async def tell(self, request: Request) -> JSONResponse:
        return JSONResponse({"pid": os.getpid(), "parent": os.getppid(), "modules": sorted(sys.modules)})

    def close(self) -> None:
        """Nothing is held."""


def make_teller(place: str, comes_back: bool) -> Teller:
    return Teller()


def main() -> None:
    import httpx

    from demo.emulation.runtime.processes import ProcessRuntime
    from demo.jobs.emulate_config import EmulateConfig
    from demo.jobs.runtimes import preload_of
    from tests.demo.emulation import forked_roles

    runtime = ProcessRuntime(forked_roles.make_teller, preload_of(EmulateConfig()))
    urls = [runtime.start("node 0"), runtime.start("device 0")]
    told = [httpx.get(url).json() for url in urls]
    runtime.kill("node 0")
    again = runtime.start("node 0", comes_back=True)
    told.append(httpx.get(again).json())
    runtime.close()
    json.dump({"urls": [*urls, again], "told": told, "modules": sorted(sys.modules)}, sys.stdout)


if __name__ == "__main__":
    main()
