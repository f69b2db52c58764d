"""What the Hub's routes share: which model a path means, and the hashes of its files."""

import asyncio
import time
from collections.abc import Iterable

from starlette.requests import Request

from pbstore.errors import ModelMissingError
from pbstore.manifest import FileEntry
from pbstore.serve.http.context import Context, context_of
from pbstore.serve.http.errors import no_model, refusal
from pbstore.serve.library import Revision
from pbstore.serve.wire.hub import FileHashes, Target, decoded_parts, is_plain, targets

MAIN = "main"


async def target_of(request: Request, skipped: int, verbs: frozenset[str]) -> Target:
    """What a path means: the reading whose model is there.

    Args:
        request: Its path is read as it was sent: a branch may have slashes that are escaped.
        skipped: Parts of the path before the model's name.
        verbs: What may follow the name.

    Raises:
        HTTPException: If no reading makes sense, or none names a model that is here.
    """
    parts = decoded_parts(request.scope.get("raw_path") or request.url.path.encode())
    if parts is None:
        raise refusal(400, "the path is no UTF-8")
    readings = list(targets(parts[skipped:], verbs))
    if not readings:
        raise refusal(
            404, "there is nothing at this path: HF_ENDPOINT is the address alone; see /openapi.json"
        )
    if len(readings) == 1:
        return readings[0]
    for reading in readings:
        try:
            await context_of(request).library.revision(reading.name)
        except (ModelMissingError, ValueError):
            continue
        return reading
    return readings[0]


async def revision_of(request: Request, name: str, revision: str = MAIN) -> Revision:
    """A model under a revision.

    Raises:
        HTTPException: If the name is none, or the model is not here.
        RevisionMissingError: If it is, in other revisions.
    """
    try:
        return await context_of(request).library.revision(name, revision or MAIN)
    except ValueError:
        raise no_model(name) from None


def is_plain_here(context: Context, file: FileEntry) -> bool:
    """Whether this server treats a file as one that Git keeps itself."""
    return is_plain(file.path, file.size_bytes, context.settings.plain_bytes)


async def hashes_of(context: Context, revision: Revision, files: Iterable[FileEntry]) -> list[FileHashes]:
    """Hashes of files: the Git hash of plain ones, the Xet hash of others unless that takes too long."""
    deadline = time.monotonic() + context.settings.hash_wait_s
    found = []
    for file in files:
        plain = is_plain_here(context, file)
        job = context.library.hashes(revision, file, plain=plain)
        if plain:
            found.append(await job)
            continue
        try:
            left = max(deadline - time.monotonic(), 0.05)
            found.append(FileHashes(xet=(await asyncio.wait_for(job, left)).xet))
        except TimeoutError:
            found.append(FileHashes())
    return found


def base_url(request: Request) -> str:
    """Address under which the client knows this server."""
    return (context_of(request).settings.public_url or str(request.base_url)).rstrip("/")
