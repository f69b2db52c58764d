"""Whatever is sent to a node: nothing leaks, hangs or grows, and no answer is a fault of the server."""

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case

from pbstore import open_store
from pbstore.serve.http.openapi import OPERATIONS
from tests.pbstore.serve.hostile import EXPECTED, attack, attacked


@schemathesis.serializer("application/x-ndjson")
def lines_of_json(_: object, value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.slow
def test_thousands_of_hostile_requests_change_nothing(tmp_path: Path) -> None:
    with attacked(tmp_path) as target:
        attack(target, 4000)
        assert target.problems == []
        assert len(target.codes) > 6
    with open_store(tmp_path / "store") as store:
        assert store.verify().ok


@pytest.mark.slow
def test_what_schemathesis_makes_of_the_page_is_answered(tmp_path: Path) -> None:
    with attacked(tmp_path) as target:
        headers = {"authorization": f"Bearer {target.token}"}
        schema = schemathesis.openapi.from_url(f"{target.url}/openapi.json", headers=headers)
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:

            @settings(max_examples=12, database=None, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def check(case: Case) -> None:
                code = case.call(headers=headers).status_code
                assert code < 500 or code in EXPECTED

            check()
        assert {one.path for one in operations} == {one.path for one in OPERATIONS} - {"/openapi.json"}
