"""Roles listen on the loopback unless another address is asked for."""

import socket
from types import SimpleNamespace

import psutil
import pytest

from demo.emulation.runtime.addresses import AddressError, address_in, check_listen, is_loopback
from demo.emulation.runtime.threads import ThreadRuntime
from demo.emulation.wire.token import run_token
from demo.emulation.world import control_app
from demo.jobs.emulate_config import EmulateConfig


class Nothing:
    """A role that knows nothing."""

    def __init__(self) -> None:
        self.app = control_app({})

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("asked", "expected"), [("127.0.0.1", "127.0.0.1"), ("127.0.0.9", "127.0.0.9")])
def test_a_role_listens_where_it_is_asked_to(asked: str, expected: str) -> None:
    with run_token():
        runtime = ThreadRuntime(lambda place, comes_back: Nothing(), address_in(asked))
    url = runtime.start("origin")
    runtime.close()
    assert url.startswith(f"http://{expected}:")
    assert runtime.host == expected


def test_a_network_is_the_address_that_the_host_has_in_it() -> None:
    assert address_in("127.0.0.0/8") == "127.0.0.1"
    assert is_loopback("127.0.0.0/8")
    assert not is_loopback("10.1.0.0/16")
    assert EmulateConfig().listen == "127.0.0.1"


@pytest.mark.parametrize("wrong", ["localhost", "", "10.1.0.0/33", "10.1.2.3/8", "::1", "999.1.1.1"])
def test_what_is_no_address_is_refused_before_anything_starts(wrong: str) -> None:
    with pytest.raises(AddressError, match="must be an IPv4 address or network, got"):
        check_listen(wrong)
    with pytest.raises(ValueError, match="IPv4"):
        EmulateConfig(listen=wrong)


def test_a_host_has_one_address_in_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"eth": ["10.1.0.7", "10.2.0.1"], "wlan": ["10.1.3.8"]}
    cards = {
        name: [SimpleNamespace(family=socket.AF_INET, address=one) for one in every]
        for name, every in own.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: cards)
    assert (address_in("10.2.0.0/16"), address_in("10.1.0.0/24")) == ("10.2.0.1", "10.1.0.7")
    with pytest.raises(AddressError, match=r"must have one address in 10\.3\.0\.0/16, it has none"):
        address_in("10.3.0.0/16")
    with pytest.raises(AddressError, match=r"it has 10\.1\.0\.7, 10\.1\.3\.8"):
        address_in("10.1.0.0/16")


def test_roles_on_shaped_links_listen_inside() -> None:
    with pytest.raises(ValueError, match="roles listen inside"):
        EmulateConfig(links="shaped", runtime="processes", pace=0.1, listen="10.1.0.0/16")
