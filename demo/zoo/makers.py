"""Makers by the name that a recipe gives."""

from collections.abc import Callable

from demo.zoo.minilm import (
    bf16_copy,
    fresh_top,
    frozen_bottom,
    lora,
    merge,
    package_folder,
    sharded_copy,
    soup,
    transported,
)
from demo.zoo.reactions import reaction_bert
from demo.zoo.smollm import smollm, smollm_lora
from demo.zoo.workshop import Workshop

MAKERS: dict[str, Callable[[Workshop], None]] = {
    "bf16_copy": bf16_copy,
    "fresh_top": fresh_top,
    "frozen_bottom": frozen_bottom,
    "lora": lora,
    "merge": merge,
    "package_folder": package_folder,
    "reaction_bert": reaction_bert,
    "sharded_copy": sharded_copy,
    "smollm": smollm,
    "smollm_lora": smollm_lora,
    "soup": soup,
    "transported": transported,
}
"""Each fills the empty folder of a workshop."""
