"""A family is broadcast once, and unmodified `from_pretrained` on each device finds its model there."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from demo.emulation.clients import Answer, Question, ask_client
from demo.emulation.log import check_log, read_log
from demo.emulation.log.events import Broadcast, Delivered, Requested
from demo.emulation.runtime.base import device_place
from demo.emulation.world import World
from demo.jobs.emulate_config import EmulateConfig
from demo.jobs.originals import of_store
from demo.jobs.run import offer_of
from demo.jobs.runtimes import runtime_of
from demo.jobs.stage import Stage, about_run
from demo.zoo.train import seeded
from pbstore import open_store
from tests.demo.emulation.conftest import small_run

pytestmark = pytest.mark.slow


def small_llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    with seeded(0):
        return LlamaForCausalLM(LlamaConfig(vocab_size=256, **sizes))


@pytest.fixture(scope="module")
def llamas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model, a child with another head, and an adapter, in a store and as folders beside it."""
    root = tmp_path_factory.mktemp("llamas")
    child = small_llama()
    with torch.no_grad():
        child.lm_head.weight += 0.25
    with seeded(1):
        adapter = get_peft_model(
            small_llama(), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
        )
        for name, value in adapter.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value)
    adapter.peft_config["default"].base_model_name_or_path = "org/base"
    with open_store(root / "store") as store:
        for name, net in {"org/base": small_llama(), "org/child": child, "org/adapter": adapter}.items():
            quiet = {"save_embedding_layers": False} if name == "org/adapter" else {}
            net.save_pretrained(root / name, **quiet)
            store.add(root / name, name=name, base=None if name == "org/base" else "org/base")
    return root


def from_device(world: World, user: int, model: str, base: str | None) -> Answer:
    return ask_client([Question(model, base)], world.urls[device_place(user)])[0]


def all_wait(world: World, users: int) -> None:
    """Return when as many users wait for a model; fails after a minute."""
    waiting = world.walk_ins
    with waiting._changed:
        assert waiting._changed.wait_for(lambda: len(waiting._waiting) == users, 60.0)


def test_from_pretrained_on_each_device_needs_no_unicast(llamas: Path, tmp_path: Path) -> None:
    asked = {0: ("org/base", None), 1: ("org/child", None), 2: ("org/adapter", "org/base")}
    config = EmulateConfig(run=small_run(llamas / "store"), loss=0.05)
    with open_store(llamas / "store", read_only=True) as store:
        originals = of_store(store)
        bases = {name: one.base for name, one in originals.items()}
        stage = Stage(
            config=config, offer=offer_of(config.run, store, bases), bases=bases, folder=tmp_path / "network"
        )
        log = tmp_path / "events.jsonl"
        over = threading.Event()
        about = about_run(stage, originals, 1)
        with runtime_of(stage, store) as runtime, World(runtime, about, log) as world:
            life = threading.Thread(target=world.serve_clients, args=(np.full((3, 2), 250.0), over.is_set))
            try:
                with ThreadPoolExecutor(3) as pool:
                    coming = [pool.submit(from_device, world, user, *asked[user]) for user in asked]
                    try:
                        all_wait(world, len(asked))  # else a busy machine serves them in slots of their own
                    finally:
                        life.start()  # or nobody who waits is ever done
                    answers = [one.result() for one in coming]
                fetched = [(world.ask(device_place(user), "ping") or {})["block_bytes"] for user in asked]
            finally:
                over.set()
                life.join()
            world.end()
    folders = [
        Question(str(llamas / model), None if base is None else str(llamas / base))
        for model, base in asked.values()
    ]
    originals_say = ask_client(folders, None)
    assert [one.sha256 for one in answers] == [one.sha256 for one in originals_say]
    assert len({one.sha256 for one in answers}) == 3
    assert fetched == [0, 0, 0]
    events = [line.event for line in read_log(log)]
    check_log(read_log(log)).raise_if_broken()
    assert {one.model for one in events if isinstance(one, Delivered)} >= {"org/base", "org/child"}
    assert {one.source for one in events if isinstance(one, Requested)} == {"client"}
    casts = [one for one in events if isinstance(one, Broadcast)]
    assert any(len(one.users) > 1 for one in casts), "nothing was shared on the air"
