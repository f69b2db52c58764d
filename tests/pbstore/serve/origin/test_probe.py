"""An endpoint is used only if it does what an origin is built on, whatever it answers."""

import socket
from contextlib import nullcontext
from pathlib import Path

import pytest

from pbstore.serve.origin.errors import OriginError, UnfitEndpointError
from pbstore.serve.origin.objects import open_objects
from pbstore.serve.origin.probe import probe, require_fit
from tests.pbstore.serve.origin.endpoints import CREDENTIALS, fake_bucket, moto_bucket
from tests.pbstore.serve.origin.kit import environment

NAMES = ["reach", "create-only", "ranges", "listing"]


@pytest.mark.parametrize("endpoint", ["fake", "moto", "memory", "file"])
def test_a_good_endpoint_passes_and_keeps_nothing_of_it(endpoint: str, tmp_path: Path) -> None:
    places = {
        "fake": fake_bucket,
        "moto": moto_bucket,
        "memory": lambda: nullcontext("memory://probe"),
        "file": lambda: nullcontext(f"file://{tmp_path}"),
    }
    with places[endpoint]() as url:
        objects = open_objects(url)
        assert [(check.name, check.ok) for check in probe(objects)] == [(name, True) for name in NAMES]
        assert list(objects.list("probe/")) == []


@pytest.mark.parametrize(
    ("fault", "name", "said"),
    [
        ("ignores If-None-Match", "create-only", "not exclusive: 5 of 5 writers"),
        ("answers ranges with 200", "ranges", "range request fails"),
        ("gives other bytes", "ranges", "came back as"),
        ("stale listing", "listing", "does not show at once what was created"),
    ],
)
def test_an_endpoint_that_only_seems_to_do_it_is_refused(fault: str, name: str, said: str) -> None:
    with fake_bucket(fault) as url:
        objects = open_objects(url)
        failed = {check.name: check.said for check in probe(objects) if not check.ok}
        assert list(failed) == [name]
        assert said in failed[name]
        with pytest.raises(UnfitEndpointError, match=rf"origin {url} cannot be used: ") as error:
            require_fit(objects)
        assert "\n" not in str(error.value)


def test_a_put_whose_answer_is_lost_meets_its_own_success() -> None:
    with fake_bucket("loses answers") as url:
        objects = open_objects(url)
        for number in range(6):
            assert objects.create(f"packs/{number}", bytes([number]) * 100)
            assert not objects.create(f"packs/{number}", b"other")
            assert objects.read(f"packs/{number}") == bytes([number]) * 100


def test_where_nobody_listens_or_no_bucket_is_the_error_says_so() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with (
            environment(**CREDENTIALS, AWS_ENDPOINT_URL=url),
            pytest.raises(OriginError, match=r"reach|connect|send"),
        ):
            require_fit(open_objects("s3://bucket", patience_s=0.2))
    with moto_bucket(), pytest.raises(OriginError, match="no such bucket"):
        require_fit(open_objects("s3://another"))


@pytest.mark.parametrize(
    "url",
    ["", "s3:", "s3://", "http://x/y", "file://host/x", "gs://b", "s3://key:secret@b", "s3://b?x=1", "b/c"],
)
def test_what_is_no_url_of_an_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        open_objects(url)
