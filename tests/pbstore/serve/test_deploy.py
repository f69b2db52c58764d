"""What is shipped to run nodes agrees with the program: options, metrics, names of services."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from demo.cli.serve import app
from pbstore.serve.http.metrics import Metrics, StoreFigures

FOLDER = Path(__file__).parents[3] / "pbstore" / "serve" / "deploy"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
NODES = {name: one for name, one in COMPOSE["services"].items() if one["image"] == "pbcast"}


def metric_names() -> set[str]:
    metrics = Metrics(lambda: StoreFigures(logical_bytes=1))
    metrics.answered("route", 200, 0.1)
    metrics.peer_up("peer", True)
    lines = metrics.page().decode().splitlines()
    return {re.match(r"\w+", line)[0] for line in lines if not line.startswith("#")}


def expressions() -> list[str]:
    dashboard = json.loads((FOLDER / "grafana.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_of_the_dashboard_exists_and_every_metric_is_on_it() -> None:
    shown = {name for text in expressions() for name in re.findall(r"pbcast_\w+", text)}
    assert shown <= metric_names()
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in metric_names()}
    assert {re.sub(r"_bucket$", "", name) for name in shown} == families


def test_every_label_of_the_dashboard_exists() -> None:
    labels = {"instance", "le"} | set(re.findall(r'(\w+)="', Metrics().page().decode()))
    labels |= {"code", "route", "peer", "form"}
    used = {label for text in expressions() for label in re.findall(r"by \((\w+)\)|(\w+)=~?\"", text)}
    assert {one for pair in used for one in pair if one} <= labels


def command_of(words: list[str]) -> dict[str, Any]:
    """What the program makes of a command line."""
    assert words[0] == "serve"
    with typer.main.get_command(app).make_context("serve", words[1:]) as context:
        return dict(context.params)


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_command_of_a_node_is_one_of_the_program(name: str) -> None:
    found = command_of(NODES[name]["command"])
    urls = [*(found["peer"] or ()), *([found["upstream"]] if found["upstream"] else [])]
    assert {urlsplit(url).hostname for url in urls} <= NODES.keys() - {name}
    assert all(urlsplit(url).port == found["port"] for url in urls)
    assert all(
        one.startswith("127.0.0.1:") and one.endswith(f":{found['port']}") for one in NODES[name]["ports"]
    )
    assert f"{name}:{found['store']}" in NODES[name]["volumes"]


def test_three_nodes_stand_before_one_origin() -> None:
    commands = {name: command_of(one["command"]) for name, one in NODES.items()}
    edge = {name for name, one in commands.items() if one["upstream"]}
    assert (len(edge), commands.keys() - edge) == (3, {"origin"})
    for name in edge:
        assert {urlsplit(url).hostname for url in commands[name]["peer"]} == edge - {name}


def test_over_it_the_nodes_share_a_key_and_are_the_same_otherwise() -> None:
    over = yaml.safe_load((FOLDER / "compose.key.yaml").read_text())["services"]
    client = over.pop("client")
    assert over.keys() == NODES.keys() - {"origin"}
    for name, one in over.items():
        assert one["command"] == [*NODES[name]["command"], "--key", "/key"]
        assert command_of(one["command"])["key"] == Path("/key")
        store, key = one["volumes"]
        assert [store] == NODES[name]["volumes"]
        assert re.fullmatch(r"\$\{PBCAST_KEY:\?[^}]+\}:/key:ro", key)
    asked = urlsplit(client["environment"]["HF_ENDPOINT"])
    assert f"http://{asked.hostname}:{asked.port}" in over["node-2"]["command"]
    assert client["depends_on"] == sorted(over)


def test_volumes_files_and_scraped_nodes_are_there() -> None:
    mounts = [text.split(":")[0] for one in COMPOSE["services"].values() for text in one["volumes"]]
    assert {mount for mount in mounts if "/" not in mount} == COMPOSE["volumes"].keys()
    assert all((FOLDER / mount).is_file() for mount in mounts if "/" in mount)
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert {target for one in scraped for target in one["targets"]} == {f"{name}:8765" for name in NODES}


def test_images_are_plain_names() -> None:
    images = [one["image"] for one in COMPOSE["services"].values()]
    images += re.findall(r"^FROM (\S+)", (FOLDER / "Containerfile").read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"[a-z]+(/[a-z]+)?(:[\w.-]+)?", image) for image in images)


def test_the_container_file_runs_the_program_and_copies_what_there_is() -> None:
    text = (FOLDER / "Containerfile").read_text()
    found = command_of(json.loads(re.search(r"^CMD (\[.*\])$", text, re.MULTILINE)[1]))
    assert f"EXPOSE {found['port']}" in text
    copied = [word for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((FOLDER.parents[2] / path).exists() for path in copied)
