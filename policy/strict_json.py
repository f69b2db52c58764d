"""JSON that every reader takes: no NaN and no Infinity, but null in their place, with a reason."""

import json
import math
from collections.abc import Mapping

REASONS = "not_finite"
"""Field of a document that says, by path, what stands behind a null in place of a number."""


def strict_json(document: object, indent: int | None = 1) -> str:
    """Plain values as JSON text; numbers that are not finite become null, and `not_finite` says which.

    Args:
        document: Dicts with text keys, lists, tuples, texts, numbers, booleans, None.
        indent: As `json.dumps` takes it.
    """
    lost: dict[str, str] = {}
    plain = _plain(document, "", lost)
    if lost and isinstance(plain, dict):
        plain[REASONS] = lost
    return json.dumps(plain, indent=indent, allow_nan=False)


def _plain(value: object, path: str, lost: dict[str, str]) -> object:
    if isinstance(value, Mapping):
        stem = f"{path}." if path else ""
        return {str(key): _plain(item, f"{stem}{key}", lost) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{place}]", lost) for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        lost[path] = "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
        return None
    return value
