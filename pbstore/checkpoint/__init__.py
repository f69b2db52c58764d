"""Checkpoints in and out of a store: cutting files into blocks, loading models, converting other formats.

`split_file` and the safetensors header are pure and light. Everything that needs torch, transformers or peft
is imported when first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pbstore.checkpoint.adapter import find_base, load_adapter
    from pbstore.checkpoint.convert import ConvertReport, convert_folder
    from pbstore.checkpoint.dequantise import dequantise_gguf
    from pbstore.checkpoint.lazy import lazy_model
    from pbstore.checkpoint.model import load_model
    from pbstore.checkpoint.state_dict import load_state_dict
    from pbstore.errors import CheckpointError
    from pbstore.formats.split import Piece, split_file

__all__ = [
    "CheckpointError",
    "ConvertReport",
    "Piece",
    "convert_folder",
    "dequantise_gguf",
    "find_base",
    "lazy_model",
    "load_adapter",
    "load_model",
    "load_state_dict",
    "split_file",
]

_MODULES = {
    "CheckpointError": "pbstore.errors",
    "ConvertReport": "pbstore.checkpoint.convert",
    "Piece": "pbstore.formats.split",
    "convert_folder": "pbstore.checkpoint.convert",
    "dequantise_gguf": "pbstore.checkpoint.dequantise",
    "find_base": "pbstore.checkpoint.adapter",
    "lazy_model": "pbstore.checkpoint.lazy",
    "load_adapter": "pbstore.checkpoint.adapter",
    "load_model": "pbstore.checkpoint.model",
    "load_state_dict": "pbstore.checkpoint.state_dict",
    "split_file": "pbstore.formats.split",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'pbstore.checkpoint' has no attribute {name!r}")
