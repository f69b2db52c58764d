"""From a Hub into a store and from a store into a cache: the stock clients on the other side."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pbstore import DiskBlockStore, ModelMissingError, ModelUnreachableError, RevisionMissingError, open_store
from pbstore.hfcache import HubAddress, add_from_hub, export_to_cache, import_cache, look_into
from pbstore.serve import StoreLibrary, create_app, serving
from tests.pbstore.folders import base_tensors, folder_content, tuned, write_model


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[DiskBlockStore]:
    """A store with a model of two revisions, whose server is the Hub."""
    base = base_tensors(rows=40)
    with open_store(tmp_path / "upstream", durable=False) as store:
        store.add(write_model(tmp_path / "v0", base), "org/m")
        store.history.tag("org/m", "v0")
        store.add(write_model(tmp_path / "v1", tuned(base, ("layer.weight",))), "org/m")
        yield store


def test_a_model_comes_from_the_hub_with_its_commit_as_a_tag(
    upstream: DiskBlockStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with serving(create_app(StoreLibrary(upstream))) as url, open_store(tmp_path / "store") as store:
        monkeypatch.setenv("HF_ENDPOINT", url)
        now, before = (item.commit for item in upstream.history.log("org/m"))
        first = add_from_hub(store, HubAddress.parse("hf://org/m@v0"))
        second = add_from_hub(store, HubAddress.parse("hf://org/m"))
        assert second.follows == first.commit
        assert store.disk.tags("org/m") == {"v0": first.commit, before: first.commit, now: second.commit}
        store.checkout(f"org/m@{before}", tmp_path / "out")
        assert folder_content(tmp_path / "out") == folder_content(tmp_path / "v0")
        assert add_from_hub(store, HubAddress.parse("hf://org/m")).already_there
        assert add_from_hub(store, HubAddress.parse("hf://org/m"), "my/own").name == "my/own"
        for address, error in (("hf://org/m@v9", RevisionMissingError), ("hf://org/none", ModelMissingError)):
            with pytest.raises(error):
                add_from_hub(store, HubAddress.parse(address))
        assert store.models() == ("my/own", "org/m")
    with open_store(tmp_path / "store") as store, pytest.raises(ModelUnreachableError):
        add_from_hub(store, HubAddress.parse("hf://org/m"))


@pytest.mark.parametrize("text", ["org/m", "hf://", "hf://@v1", "hf://../x", "hf://a b"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        HubAddress.parse(text)


def test_what_is_exported_and_imported_again_is_the_same(upstream: DiskBlockStore, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    now, before = (item.commit for item in upstream.history.log("org/m"))
    first = export_to_cache(upstream, ["org/m@v0", "org/m"], cache)
    again = export_to_cache(upstream, ["org/m@v0", "org/m"], cache)

    assert [item.revision for item in first] == [before, now]
    assert [item.written_bytes > 0 for item in (*first, *again)] == [True, True, False, False]
    assert (cache / "models--org--m" / "refs" / "main").read_text() == now
    assert folder_content(Path(first[0].folder)) == folder_content(tmp_path / "v0")
    with open_store(tmp_path / "store", durable=False) as store:
        report = import_cache(store, look_into(cache))
        assert report.failed == ()
        assert [item.commit for item in store.history.log("org/m")] == [now, before]
        assert store.disk.model_row("org/m@v0").commit == before
        assert [item.already_there for item in import_cache(store, look_into(cache)).models] == [True, True]


LOAD = """
import json, sys
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained("org/bert")
old = AutoModel.from_pretrained("org/bert", revision="v0")
name = "embeddings.word_embeddings.weight"
print(json.dumps([float(one.state_dict()[name].sum()) for one in (model, old)]))
"""


@pytest.mark.slow
def test_transformers_loads_offline_what_was_exported(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=50
    )
    sums = []
    with open_store(tmp_path / "store", durable=False) as store:
        for seed in (0, 1):
            torch.manual_seed(seed)
            model = BertModel(config)
            model.save_pretrained(tmp_path / str(seed))
            sums.append(float(model.state_dict()["embeddings.word_embeddings.weight"].sum()))
            store.add(tmp_path / str(seed), "org/bert")
        store.history.tag("org/bert@~1", "v0")
        export_to_cache(store, ["org/bert", "org/bert@v0"], tmp_path / "home" / "hub")
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == pytest.approx([sums[1], sums[0]])
