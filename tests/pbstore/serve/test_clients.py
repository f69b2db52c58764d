"""Unmodified clients of the Hub, in processes of their own: every file comes back equal, however they ask."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pbstore import DiskBlockStore, open_store
from pbstore.serve import StoreLibrary, serving
from tests.pbstore.folders import folder_content, write_model
from tests.pbstore.serve.clients import PULL, Relay, relayed, run_client
from tests.pbstore.serve.stores import FAMILY, family_store, hashes_of_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskBlockStore]:
    with family_store(tmp_path_factory.mktemp("served")) as opened:
        yield opened


@pytest.fixture(scope="module")
def relay(store: DiskBlockStore) -> Iterator[Relay]:
    with serving(StoreLibrary(store)) as url, relayed(url) as between:
        yield between


def expected(store: DiskBlockStore) -> dict[str, dict[str, str]]:
    return {name: hashes_of_folder(store.path.parent / "folders" / name) for name in FAMILY}


def test_a_snapshot_comes_cold_warm_and_offline(store: DiskBlockStore, relay: Relay, tmp_path: Path) -> None:
    relay.taken()
    assert run_client(PULL, relay.url, tmp_path, *FAMILY) == expected(store)
    cold = relay.taken()
    assert run_client(PULL, relay.url, tmp_path, *FAMILY) == expected(store)
    assert relay.taken() < 0.01 * cold
    assert run_client(PULL, relay.url, tmp_path, *FAMILY, HF_HUB_OFFLINE="1") == expected(store)
    assert relay.taken() == 0


@pytest.mark.slow
@pytest.mark.parametrize("xet", ["0", "1"], ids=["xet", "http"])
def test_a_download_that_is_cut_goes_on(tmp_path: Path, xet: str) -> None:
    """Twice cut, it ends well. By HTTP it goes on behind the last whole 10 MB, which the client has kept."""
    rng = np.random.default_rng(0)
    folder = write_model(tmp_path / "model", {"w": rng.normal(0, 1, (6_000_000,)).astype(np.float32)})
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(folder, "org/large", form="hot")
        with serving(StoreLibrary(store)) as url, relayed(url) as relay:
            relay.cut_after, relay.cuts_left = 11_000_000, 2
            pulled = run_client(PULL, relay.url, tmp_path / "home", "org/large", HF_HUB_DISABLE_XET=xet)
    assert pulled == {"org/large": hashes_of_folder(folder)}
    assert relay.cuts == 2
    if xet == "1":
        assert relay.taken() < 1.3 * 24_000_000


LARGE = """
import json, sys
import huggingface_hub.constants as constants
import huggingface_hub.file_download as download
constants.MAX_HTTP_DOWNLOAD_SIZE = 1000
assert "MAX_HTTP_DOWNLOAD_SIZE" in open(download.__file__).read()
from huggingface_hub import hf_hub_download
print(json.dumps(open(hf_hub_download("org/base", "model.safetensors"), "rb").read().hex()))
"""


@pytest.mark.slow
def test_a_file_above_the_limit_of_http_comes_by_xet(
    store: DiskBlockStore, relay: Relay, tmp_path: Path
) -> None:
    """With the client's limit of 50 GB lowered to 1000 bytes; without Xet it refuses."""
    content = (store.path.parent / "folders/org/base/model.safetensors").read_bytes()
    assert run_client(LARGE, relay.url, tmp_path / "one") == content.hex()
    with pytest.raises(AssertionError, match="too large"):
        run_client(LARGE, relay.url, tmp_path / "two", HF_HUB_DISABLE_XET="1")


API = """
import json
from huggingface_hub import HfApi, HfFileSystem, errors, get_safetensors_metadata
api, fs = HfApi(), HfFileSystem()
def name_of(job):
    try:
        job()
    except Exception as error:
        return type(error).__name__
content = fs.open("org/tuned/model.safetensors", "rb")
content.seek(1000)
print(json.dumps({
    "models": sorted(model.id for model in api.list_models(author="org")),
    "files": api.list_repo_files("org/tuned"),
    "exists": [api.file_exists("org/tuned", path) for path in ("config.json", "none")],
    "info": [(one.rfilename, one.size) for one in api.model_info("org/tuned", files_metadata=True).siblings],
    "paths": [one.path for one in api.get_paths_info("org/tuned", ["config.json", "nested", "none"])],
    "commits": len(api.list_repo_commits("org/tuned")),
    "tensors": get_safetensors_metadata("org/tuned").parameter_count,
    "found": sorted(fs.glob("org/tuned/**/*.txt")),
    "part": content.read(50).hex(),
    "who": api.whoami(token="t")["name"],
    "errors": [name_of(lambda: api.model_info("org/none")),
               name_of(lambda: api.model_info("org/base", revision="none")),
               name_of(lambda: api.hf_hub_download("org/base", "none"))],
}))
"""


def test_the_rest_of_the_client_works(store: DiskBlockStore, relay: Relay, tmp_path: Path) -> None:
    content = folder_content(store.path.parent / "folders/org/tuned")
    found = run_client(API, relay.url, tmp_path)
    sizes = dict(found.pop("info"))

    assert sizes == {path: len(data) for path, data in content.items()}
    assert found == {
        "models": sorted(FAMILY),
        "files": sorted(content),
        "exists": [True, False],
        "paths": ["config.json", "nested"],
        "commits": 1,
        "tensors": {"F32": 3000 * 64 + 64 * 64 + 64},
        "found": ["org/tuned/empty.txt", "org/tuned/nested/a b/ü 中.txt"],
        "part": content["model.safetensors"][1000:1050].hex(),
        "who": "pbcast",
        "errors": ["RepositoryNotFoundError", "RevisionNotFoundError", "RemoteEntryNotFoundError"],
    }


@pytest.mark.slow
def test_many_clients_at_once(store: DiskBlockStore, relay: Relay, tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(run_client, PULL, relay.url, tmp_path / str(n), *FAMILY) for n in range(6)]
        assert all(job.result() == expected(store) for job in jobs)


@pytest.mark.slow
def test_the_command_line_downloads_lists_and_verifies(
    store: DiskBlockStore, relay: Relay, tmp_path: Path
) -> None:
    script = "import json, subprocess, sys\n"
    script += "for words in json.loads(sys.argv[1]): subprocess.run(words, check=True)"
    tool = str(Path(sys.executable).with_name("hf"))
    steps = [
        [tool, "download", "org/tuned", "--local-dir", str(tmp_path / "out")],
        [tool, "download", "org/tuned"],
        [tool, "cache", "ls"],
        [tool, "cache", "verify", "org/tuned"],
    ]
    run_client(script + "\nprint(0)", relay.url, tmp_path / "home", json.dumps(steps))
    content = folder_content(tmp_path / "out")
    assert {path: data for path, data in content.items() if not path.startswith(".cache")} == folder_content(
        store.path.parent / "folders/org/tuned"
    )


MAKE = """
import sys, torch
from transformers import BertConfig, BertModel
from peft import LoraConfig, get_peft_model
torch.manual_seed(0)
small = dict(vocab_size=500, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
model = BertModel(BertConfig(**small)).eval()
model.save_pretrained(sys.argv[1] + "/base")
tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
tuned.peft_config["default"].base_model_name_or_path = "org/bert"
tuned.save_pretrained(sys.argv[1] + "/lora")
torch.save(tuned(torch.arange(9)[None]).last_hidden_state, sys.argv[1] + "/expected.pt")
"""
LOAD = """
import json, sys, torch
from transformers import AutoModel
from peft import PeftModel
model = PeftModel.from_pretrained(AutoModel.from_pretrained("org/bert"), "org/lora").eval()
got = model(torch.arange(9)[None]).last_hidden_state
print(json.dumps(torch.equal(got, torch.load(sys.argv[1]))))
"""


@pytest.mark.slow
def test_models_and_adapters_load_by_name(tmp_path: Path) -> None:
    """`AutoModel` and `PeftModel` by name, then offline, give what the source gave, bit for bit."""
    subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True, capture_output=True)
    with open_store(tmp_path / "store", durable=False) as store:
        store.add(tmp_path / "base", "org/bert")
        store.add(tmp_path / "lora", "org/lora")
        words = (str(tmp_path / "expected.pt"),)
        with serving(StoreLibrary(store)) as url:
            assert run_client(LOAD, url, tmp_path / "home", *words) is True
        assert run_client(LOAD, url, tmp_path / "home", *words, HF_HUB_OFFLINE="1") is True
