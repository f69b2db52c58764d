"""A signed URL permits what it says, until it ends, and nothing else."""

import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pbstore.serve.wire.signed import KEY_BYTES, Ranges, SignatureError, Signer, parse_range

SIGNER = Signer(bytes(range(KEY_BYTES)))
NOW = 1_900_000_000
PATHS = st.text(max_size=40).map(lambda text: "/xet/" + quote(text))
SPANS = st.tuples(st.integers(0, 2**40), st.integers(0, 2**30)).map(lambda pair: (pair[0], sum(pair)))
SCOPES = st.none() | st.lists(SPANS, min_size=1, max_size=4).map(tuple)


def header(ranges: Ranges | None) -> str | None:
    return None if ranges is None else "bytes=" + ",".join(f"{first}-{last}" for first, last in ranges)


@given(path=PATHS, scope=SCOPES, life=st.integers(1, 10**6))
def test_what_was_signed_is_permitted_until_its_end(path: str, scope: Ranges | None, life: int) -> None:
    query = SIGNER.query("GET", path, NOW + life, scope)
    for method in ("GET", "HEAD"):
        SIGNER.check(method, path, query, header(scope), NOW + life - 1)
    for late in (NOW + life, NOW + life + 10**6):
        with pytest.raises(SignatureError, match="ended"):
            SIGNER.check("GET", path, query, header(scope), late)


@given(data=st.data(), path=PATHS, scope=SCOPES)
def test_no_altered_character_of_method_path_or_query_is_permitted(
    data: st.DataObject, path: str, scope: Ranges | None
) -> None:
    signed = ["GET", path, SIGNER.query("GET", path, NOW + 60, scope)]
    which = data.draw(st.sampled_from([0, 1, 2]))
    where = data.draw(st.integers(0, len(signed[which]) - 1))
    other = data.draw(st.sampled_from(sorted(set(string.printable) - {signed[which][where]})))
    kind = data.draw(st.sampled_from(["replace", "insert", "delete"]))
    text = signed[which]
    middle = {"replace": other, "insert": other + text[where], "delete": ""}[kind]
    signed[which] = text[:where] + middle + text[where + 1 :]
    if signed[which] == text:
        return
    with pytest.raises(SignatureError):
        SIGNER.check(*signed, header(scope), NOW)  # type: ignore[call-arg]


@given(scope=SPANS, asked=SPANS)
def test_a_range_is_permitted_exactly_if_it_lies_in_the_scope(
    scope: tuple[int, int], asked: tuple[int, int]
) -> None:
    query = SIGNER.query("GET", "/x", NOW + 60, (scope,))
    if scope[0] <= asked[0] and asked[1] <= scope[1]:
        SIGNER.check("GET", "/x", query, header((asked,)), NOW)
    else:
        with pytest.raises(SignatureError, match="bytes"):
            SIGNER.check("GET", "/x", query, header((asked,)), NOW)


@pytest.mark.parametrize(
    "asked",
    [None, "", "bytes=", "bytes=0-", "bytes=-5", "bytes=5-2", "lines=0-1", "bytes=0-1,", "bytes=0-1,90-99"],
)
def test_a_scope_is_not_passed_by_a_header_that_names_no_range_in_it(asked: str | None) -> None:
    query = SIGNER.query("GET", "/x", NOW + 60, ((0, 9),))
    with pytest.raises(SignatureError):
        SIGNER.check("GET", "/x", query, asked, NOW)


def test_another_key_permits_nothing_and_an_old_one_does_until_it_is_taken_out() -> None:
    old, new = b"a" * KEY_BYTES, b"b" * KEY_BYTES
    query, token = Signer(old).query("GET", "/x", NOW + 60), Signer(old).token("read", NOW + 60)
    Signer(new, old).check("GET", "/x", query, None, NOW)
    assert Signer(new, old).grant(token, NOW).role == "read"
    with pytest.raises(SignatureError):
        Signer(new).check("GET", "/x", query, None, NOW)
    with pytest.raises(SignatureError):
        Signer(new).grant(token, NOW)


@given(where=st.integers(0, 200), other=st.sampled_from(string.printable))
def test_an_altered_or_ended_token_permits_nothing(where: int, other: str) -> None:
    token = SIGNER.token("read", NOW + 60)
    assert SIGNER.grant(token, NOW) == SIGNER.grant(token, NOW + 59.9)
    with pytest.raises(SignatureError, match="ended"):
        SIGNER.grant(token, NOW + 60)
    altered = token[:where] + other + token[where + 1 :]
    if altered != token:
        with pytest.raises(SignatureError):
            SIGNER.grant(altered, NOW)


def test_a_token_is_no_url_and_a_url_no_token() -> None:
    mac = SIGNER.token("read", NOW + 60).rpartition(".")[2]
    with pytest.raises(SignatureError):
        SIGNER.check("GET", "/x", f"expires={NOW + 60}&bytes=*&signature={mac}", None, NOW)


@pytest.mark.parametrize("keys", [(), (b"short",), (b"a" * KEY_BYTES, b"")])
def test_short_keys_are_refused(keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Signer(*keys)


@given(st.text(max_size=60))
def test_any_header_is_ranges_or_nothing(text: str) -> None:
    found = parse_range(text)
    assert found is None or all(0 <= first <= last for first, last in found)
