"""Signed, expiring URLs and access tokens: HMAC-SHA-256 (RFC 2104) over what they permit, and no more.

A client of Xet fetches blocks by URLs that it was handed, without a token: the URL is the permission. It says
the method, the path, the byte ranges and the second of its end; whoever alters one of them has no permission.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

KEY_BYTES = 32
"""Least length of a key: that of the digest (RFC 2104, section 3)."""
MAX_RANGES = 1024
"""Most byte ranges that one URL or one request may name."""
Ranges = tuple[tuple[int, int], ...]
"""Byte ranges, first and last byte, both included, as in HTTP."""

_QUERY = re.compile(r"(?:([^=&]*)=([^&]*))")
_SPAN = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_MAC = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,19}")


class SignatureError(ValueError):
    """A signed URL or token permits nothing: it was altered, has ended, or asks for more than it says."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token permits."""

    role: str
    expires_s: int
    """Second of its end, Unix time."""


class Signer:
    """Signs and checks with secret keys; nodes that trust each other share them.

    Args:
        keys: The first signs, all of them check: a new key goes to the front, the old one is taken out when
            the last URL that it signed has ended.

    Raises:
        ValueError: If there is no key, or one is shorter than `KEY_BYTES`.
    """

    def __init__(self, *keys: bytes) -> None:
        if not keys or min(map(len, keys)) < KEY_BYTES:
            raise ValueError(f"expected one or more keys of at least {KEY_BYTES} bytes")
        self._keys = keys

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} keys)"

    @classmethod
    def fresh(cls) -> "Signer":
        """A signer with a key of its own, from the system's random source."""
        return cls(secrets.token_bytes(KEY_BYTES))

    def query(self, method: str, path: str, expires_s: int, ranges: Ranges | None = None) -> str:
        """Query string that permits one method on one path until a time.

        Args:
            method: HTTP method; what permits GET permits HEAD.
            path: Path of the URL as it will be sent, percent-encoded.
            expires_s: Second of its end, Unix time.
            ranges: Byte ranges that may be asked for, None for all.

        Raises:
            ValueError: If the ranges are empty, too many, or run backwards.
        """
        scope = _scope_text(ranges)
        mac = self._mac(self._keys[0], "url", method, path, scope, str(int(expires_s)))
        return urlencode({"expires": int(expires_s), "bytes": scope, "signature": mac}, safe=",-*")

    def check(self, method: str, path: str, query: str, range_header: str | None, now_s: float) -> None:
        """Refuse a request that its URL does not permit.

        Args:
            method: Of the request.
            path: Of the request, percent-encoded, as it came.
            query: Query string of the request, without the question mark.
            range_header: Its `Range` header.
            now_s: Unix time, s.

        Raises:
            SignatureError: If the URL was altered, has ended, or does not cover what is asked for.
        """
        fields = _fields(query)
        scope, expires = fields["bytes"], fields["expires"]
        asked = "GET" if method == "HEAD" else method
        if not self._matches(fields["signature"], "url", asked, path, scope, expires):
            raise SignatureError("the signature does not belong to this URL")
        _refuse_ended(expires, now_s)
        if scope != "*" and not _covers(_spans(scope), range_header):
            raise SignatureError("the URL does not permit these bytes: ask for a range that it was made for")

    def token(self, role: str, expires_s: int) -> str:
        """Access token for a role until a second of Unix time.

        Raises:
            ValueError: If the role is not a word.
        """
        if not role.isalnum():
            raise ValueError(f"expected a role of letters and digits, got {role!r}")
        mac = self._mac(self._keys[0], "token", role, str(int(expires_s)))
        return f"{role}.{int(expires_s)}.{mac}"

    def grant(self, token: str, now_s: float) -> Grant:
        """What a token permits.

        Raises:
            SignatureError: If it was altered or has ended.
        """
        role, _, rest = token.partition(".")
        expires, _, mac = rest.partition(".")
        if not _NUMBER.fullmatch(expires) or not self._matches(mac, "token", role, expires):
            raise SignatureError("expected an access token that this node signed")
        _refuse_ended(expires, now_s)
        return Grant(role, int(expires))

    def _matches(self, mac: str, *parts: str) -> bool:
        """Whether one of the keys made it; every key is tried, in constant time."""
        if not _MAC.fullmatch(mac):
            return False
        same = [hmac.compare_digest(mac, self._mac(key, *parts)) for key in self._keys]
        return any(same)

    @staticmethod
    def _mac(key: bytes, *parts: str) -> str:
        """Digest of parts, each behind its length, so that no two lists of parts are one message."""
        encoded = [part.encode("utf-8", "surrogateescape") for part in ("pbcast-1", *parts)]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.new(key, message, "sha256").hexdigest()


def parse_range(header: str) -> Ranges | None:
    """Byte ranges of a `Range` header whose both ends are given; None if it is anything else."""
    unit, _, text = header.partition("=")
    parts = text.split(",", MAX_RANGES)
    if unit.strip().lower() != "bytes" or len(parts) > MAX_RANGES:
        return None
    found = [_SPAN.fullmatch(part.strip()) for part in parts]
    ranges = tuple((int(one[1]), int(one[2])) for one in found if one is not None)
    whole = len(ranges) == len(parts) and all(first <= last for first, last in ranges)
    return ranges if whole else None


def _scope_text(ranges: Ranges | None) -> str:
    if ranges is None:
        return "*"
    if not 0 < len(ranges) <= MAX_RANGES or any(not 0 <= first <= last for first, last in ranges):
        raise ValueError(f"expected 1 to {MAX_RANGES} byte ranges with 0 <= first <= last, got {ranges[:3]}")
    return ",".join(f"{first}-{last}" for first, last in ranges)


def _spans(scope: str) -> Ranges:
    return parse_range(f"bytes={scope}") or ()


def _covers(permitted: Iterable[tuple[int, int]], range_header: str | None) -> bool:
    asked = parse_range(range_header) if range_header is not None else None
    spans = tuple(permitted)
    return asked is not None and all(
        any(first <= start and end <= last for first, last in spans) for start, end in asked
    )


def _refuse_ended(expires: str, now_s: float) -> None:
    if now_s >= int(expires):
        raise SignatureError("the permission has ended: ask for a new one")


def _fields(query: str) -> dict[str, str]:
    """The three fields of a signed query; anything more, less or twice is refused."""
    pairs = [_QUERY.fullmatch(part) for part in query.split("&", 4)]
    fields = {pair[1]: pair[2] for pair in pairs if pair is not None}
    if len(pairs) != 3 or fields.keys() != {"expires", "bytes", "signature"}:
        raise SignatureError("expected a URL signed by this node: expires, bytes and signature, once each")
    if not _NUMBER.fullmatch(fields["expires"]):
        raise SignatureError("expected expires to be a second of Unix time")
    return fields
