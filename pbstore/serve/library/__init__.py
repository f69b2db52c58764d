"""What a server can serve: models, byte ranges of their files, and blocks."""

from pbstore.serve.library.library import Extent, History, Library, Revision, commit_of
from pbstore.serve.library.store import StoreLibrary

__all__ = ["Extent", "History", "Library", "Revision", "StoreLibrary", "commit_of"]
