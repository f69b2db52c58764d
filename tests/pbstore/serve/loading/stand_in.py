"""A stand-in for what vLLM documents of `vllm.lora.resolver` and `.request`; vLLM itself is not here."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import ModuleType

import pytest


@dataclass
class LoRARequest:
    """The three fields that a resolver has to give."""

    lora_name: str
    lora_int_id: int
    lora_path: str = ""

    def __post_init__(self) -> None:
        if self.lora_int_id < 1:
            raise ValueError("id must be > 0")


class LoRAResolver(ABC):
    @abstractmethod
    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None: ...


class Registry:
    def __init__(self) -> None:
        self.resolvers: dict[str, LoRAResolver] = {}

    def register_resolver(self, resolver_name: str, resolver: LoRAResolver) -> None:
        self.resolvers[resolver_name] = resolver


def install(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Let imports of vLLM find the stand-in."""
    registry = Registry()
    modules = {
        name: ModuleType(name) for name in ("vllm", "vllm.lora", "vllm.lora.resolver", "vllm.lora.request")
    }
    modules["vllm.lora.resolver"].LoRAResolver = LoRAResolver  # type: ignore[attr-defined]
    modules["vllm.lora.resolver"].LoRAResolverRegistry = registry  # type: ignore[attr-defined]
    modules["vllm.lora.request"].LoRARequest = LoRARequest  # type: ignore[attr-defined]
    for name, module in modules.items():
        monkeypatch.setitem(__import__("sys").modules, name, module)
    return registry
