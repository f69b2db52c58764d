"""A store over HTTP: the protocols of the Hugging Face Hub and of Xet, for clients as they are."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbstore.serve.app import create_app
    from pbstore.serve.library import Library, StoreLibrary
    from pbstore.serve.run import serve, serving
    from pbstore.serve.settings import ServeSettings

__all__ = ["Library", "ServeSettings", "StoreLibrary", "create_app", "serve", "serving"]

_MODULES = ("settings", "library", "app", "run")


def __getattr__(name: str) -> object:
    """Load a public name from its module, so that importing costs nothing before it is asked for."""
    if name in __all__:
        for module in _MODULES:
            found = getattr(import_module(f"pbstore.serve.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'pbstore.serve' has no attribute {name!r}")
