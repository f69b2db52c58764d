"""What an adapter's configuration says, read without believing it: nothing in it may import, read or fetch.

PEFT's own loader reads files and asks the Hub where a configuration says so. Here such a wish is either of no
consequence for an adapter that is complete, and dropped, or refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pbstore.checkpoint.files import read_json
from pbstore.errors import CheckpointError
from pbstore.manifest import Manifest
from pbstore.store import BlockStore

if TYPE_CHECKING:
    from peft import PeftConfig

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PLAIN_STARTS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
"""Ways to start a LoRA that leave the base as it is: the stored matrices replace what they gave."""
_LEAVE_BASE = frozenset(
    {"ADALORA", "C3A", "CARTRIDGE", "CPT", "DELORA", "FOURIERFT", "GRALORA", "HIRA", "HRA", "IA3", "LILY"}
    | {"LOHA", "LOKR", "MISS", "MULTITASK_PROMPT_TUNING", "OFT", "P_TUNING", "PREFIX_TUNING", "PROMPT_TUNING"}
    | {"RANDLORA", "ROAD", "VBLORA", "VERA"}
)
"""Other kinds that do so."""


def adapter_file(subfolder: str, name: str) -> str:
    """Path of an adapter's file, in the folder of a named adapter if there is one."""
    return f"{subfolder.strip('/')}/{name}" if subfolder.strip("/") else name


def read_adapter_config(store: BlockStore, manifest: Manifest, subfolder: str = "") -> PeftConfig:
    """The configuration of a stored adapter, for inference.

    Raises:
        CheckpointError: If there is none, PEFT refuses it, or it asks for something outside the store.
    """
    from peft import PeftConfig

    path = adapter_file(subfolder, ADAPTER_CONFIG)
    tree = read_json(store, manifest, path)
    if tree is None:
        raise CheckpointError(f"{manifest.name} has no {path}: it is no adapter")
    _check_wishes(manifest.name, tree)
    tree.pop("runtime_config", None)
    if tree.get("prompt_tuning_init_state_dict_path") is not None:  # the stored prompts replace it
        tree |= {"prompt_tuning_init": "RANDOM", "prompt_tuning_init_state_dict_path": None}
    try:
        config = PeftConfig.from_peft_type(**tree)
    except Exception as error:  # every peft version raises its own
        raise CheckpointError(f"{path} of {manifest.name} is refused: {in_one_line(error)}") from error
    config.inference_mode = True
    return config


def starts_plainly(config: PeftConfig) -> bool:
    """Whether an adapter is a LoRA that may be built without memory: what is stored replaces all of it."""
    start = getattr(config, "init_lora_weights", True)
    plain = isinstance(start, bool) or start in _PLAIN_STARTS
    return config.peft_type == "LORA" and plain and not getattr(config, "layer_replication", None)


def leaves_base(config: PeftConfig, names: Iterable[str]) -> bool:
    """Whether PEFT surely writes nothing into the base's memory when it loads an adapter of these tensors.

    It does where the start of an adapter is taken from the base (PiSSA), and where the base's own tensors are
    stored with it: biases, or an embedding.
    """
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    kind = str(config.peft_type).removeprefix("PeftType.")
    if kind not in _LEAVE_BASE and not starts_plainly(config):
        return False
    prefix = PEFT_TYPE_TO_PREFIX_MAPPING[config.peft_type]
    copied = tuple(f".{module}." for module in getattr(config, "modules_to_save", None) or ())
    return all(
        prefix in name or any(part in f".{name}" for part in copied)
        for name in names
        if name.startswith("base_model.") or not config.is_prompt_learning
    )


def in_one_line(error: BaseException) -> str:
    """What an error of another library says."""
    text = " ".join(str(error).split())[:200]
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()


def _check_wishes(name: str, tree: dict[str, Any]) -> None:
    kind = tree.get("peft_type")
    if not isinstance(kind, str):
        raise CheckpointError(f"{ADAPTER_CONFIG} of {name} says no peft_type, got {str(kind)[:40]}")
    if tree.get("megatron_config"):
        raise CheckpointError(f"{name} asks to import a module that its config names: refused")
    if kind == "XLORA":
        raise CheckpointError(f"{name} is an X-LoRA: it mixes adapters that lie elsewhere, refused")
    if kind == "SHADOW" and tree.get("shadow_model", "mirror") != "mirror":
        raise CheckpointError(
            f"{name} needs the model {str(tree['shadow_model'])[:80]!r} too: refused, nothing is fetched"
        )
