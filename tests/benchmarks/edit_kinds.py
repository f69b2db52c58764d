"""Kinds of edit, made of real weights: what people make of a model that a store already holds."""

import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tests.pbstore.codecs.edits import dare, int4, int8, slerp, ties, truncated, two_of_four, without_smallest

Tensors = dict[str, torch.Tensor]
Make = Callable[["Sources", Path], None]
EMBEDDING = "embeddings.word_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Sources:
    """What edits are made of: folders of a base and of a fine-tune by another author, both in every store."""

    base: Path
    tuned: Path
    sibling: Path
    """A fine-tune of the base that is in no store."""

    def tensors(self, name: str) -> Tensors:
        """Weights of one of them."""
        return load_file(getattr(self, name) / "model.safetensors")

    def both(self) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
        """Names, weights of the base and weights of the fine-tune, where both have them."""
        base, tuned = self.tensors("base"), self.tensors("tuned")
        return [(name, base[name], tuned[name]) for name in base if name in tuned]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def saved(tensors: Tensors, out: Path, name: str = "model.safetensors") -> None:
    """A folder with one file of weights, as `save_pretrained` writes it."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(whole, out / name, metadata={"format": "pt"})


def each(function: Callable[[torch.Tensor], torch.Tensor], least_axes: int = 1) -> Make:
    """An edit of each float tensor of the base with so many axes."""

    def make(sources: Sources, out: Path) -> None:
        base = sources.tensors("base")
        changed = {
            name: function(value) if value.is_floating_point() and value.ndim >= least_axes else value
            for name, value in base.items()
        }
        saved(changed, out)

    return make


def pairs(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Make:
    """An edit of each float tensor that base and fine-tune have."""

    def make(sources: Sources, out: Path) -> None:
        saved(
            {n: function(x, y) if x.is_floating_point() else x for n, x, y in sources.both()},
            out,
        )

    return make


def frozen(sources: Sources, out: Path) -> None:
    """The upper half is another fine-tune's, the rest is the base's."""
    base, sibling = sources.tensors("base"), sources.tensors("sibling")
    changed = {}
    for name, value in base.items():
        other = sibling.get(name, sibling.get(f"bert.{name}", value))
        changed[name] = other if any(f"layer.{k}." in name for k in (3, 4, 5)) else value
    saved(changed, out)


def lora_factors(sources: Sources) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Rank 8 on query and value of each layer."""
    g = generator(8)
    return {
        name: (torch.randn(8, x.shape[1], generator=g) * 0.02, torch.randn(x.shape[0], 8, generator=g) * 0.02)
        for name, x in sources.tensors("base").items()
        if name.endswith((".query.weight", ".value.weight"))
    }


def adapter(sources: Sources, out: Path) -> None:
    """A LoRA adapter in PEFT's form."""
    factors = {}
    for name, (down, up) in lora_factors(sources).items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        factors |= {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    saved(factors, out, "adapter_model.safetensors")
    config = '{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]}'
    (out / "adapter_config.json").write_text(config)


def merged_lora(sources: Sources, out: Path) -> None:
    """The same adapter merged into the base."""
    base = sources.tensors("base")
    for name, (down, up) in lora_factors(sources).items():
        base[name] = base[name] + 2.0 * (up @ down)
    saved(base, out)


def int8_with_scales(sources: Sources, out: Path) -> None:
    changed: Tensors = {}
    for name, value in sources.tensors("base").items():
        if value.ndim == 2:
            changed[name], scale = int8(value)
            changed[f"{name}_scale"] = scale
        else:
            changed[name] = value
    saved(changed, out)


def int8_turned_back(value: torch.Tensor) -> torch.Tensor:
    quantised, scale = int8(value)
    return quantised.float() * scale


def columns_permuted(sources: Sources, out: Path) -> None:
    """The hidden units in another order, wherever they are a column."""
    order = torch.randperm(384, generator=generator(1))
    base = sources.tensors("base")
    saved({n: v[:, order] if v.ndim == 2 and v.shape[1] == 384 else v for n, v in base.items()}, out)


def neurons_permuted(sources: Sources, out: Path) -> None:
    """The neurons of each feed-forward layer in another order: rows of one weight, columns of the next."""
    order = torch.randperm(1536, generator=generator(2))
    changed = sources.tensors("base")
    for name, value in changed.items():
        if ".intermediate.dense." in name:
            changed[name] = value[order]
        elif value.ndim == 2 and value.shape[1] == 1536:
            changed[name] = value[:, order]
    saved(changed, out)


def half_width(value: torch.Tensor) -> torch.Tensor:
    return value[: (value.shape[0] + 1) // 2, : value.shape[1] // 2] if value.ndim == 2 else value


def tensor_parallel(sources: Sources, out: Path) -> None:
    """Split over two: columns of output layers, rows of the others."""
    for part in range(2):
        shard = {}
        for name, value in sources.tensors("base").items():
            if value.ndim < 2 or value.shape[0] < 2:
                shard[name] = value
            elif ".output.dense." in name:
                shard[name] = value.chunk(2, dim=1)[part]
            else:
                shard[name] = value.chunk(2, dim=0)[part]
        saved(shard, out, f"rank-{part}.safetensors")


def rows_inserted(sources: Sources, out: Path) -> None:
    base = sources.tensors("base")
    new = torch.randn(3, 384, generator=generator(5)) * 0.02
    base[EMBEDDING] = torch.cat([base[EMBEDDING][:1000], new, base[EMBEDDING][1000:]])
    saved(base, out)


def vocabulary(change: Callable[[torch.Tensor], torch.Tensor]) -> Make:
    """An edit of the embeddings only."""

    def make(sources: Sources, out: Path) -> None:
        base = sources.tensors("base")
        saved({**base, EMBEDDING: change(base[EMBEDDING])}, out)

    return make


def layers(order: tuple[int, ...]) -> Make:
    """Layers of the base in another order, dropped or repeated."""

    def make(sources: Sources, out: Path) -> None:
        base = sources.tensors("base")
        changed = {n: v for n, v in base.items() if ".layer." not in n}
        for place, layer in enumerate(order):
            prefix = f"encoder.layer.{layer}."
            for name, value in base.items():
                if name.startswith(prefix):
                    changed[f"encoder.layer.{place}.{name.removeprefix(prefix)}"] = value
        saved(changed, out)

    return make


def fused(sources: Sources, out: Path) -> None:
    """Query, key and value of each layer in one tensor, feed-forward layers stacked."""
    base = sources.tensors("base")
    changed = {n: v for n, v in base.items() if ".self." not in n and "intermediate.dense.weight" not in n}
    for layer in range(6):
        names = [f"encoder.layer.{layer}.attention.self.{one}.weight" for one in ("query", "key", "value")]
        changed[f"encoder.layer.{layer}.qkv.weight"] = torch.cat([base[name] for name in names])
    stack = [base[f"encoder.layer.{layer}.intermediate.dense.weight"] for layer in range(6)]
    saved({**changed, "encoder.stacked.weight": torch.stack(stack)}, out)


PARTS = ("query", "key", "value")


def with_fused(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Query, key and value of each layer in one tensor, all in a dtype."""
    changed = {n: v for n, v in tensors.items() if not any(f".self.{one}.weight" in n for one in PARTS)}
    for name in tensors:
        if ".self.query.weight" in name:
            parts = [tensors[name.replace("query", one)] for one in PARTS]
            changed[name.replace("query", "qkv")] = torch.cat(parts)
    return {n: v.to(dtype) if v.is_floating_point() else v for n, v in changed.items()}


def fused_and_cast(name: str, dtype: torch.dtype) -> Make:
    """Three tensors of a model of the store as one."""
    return lambda sources, out: saved(with_fused(sources.tensors(name), dtype), out)


def split_and_cast(sources: Sources, out: Path) -> None:
    """Query, key and value of a model of which the store has the fused ones."""
    saved(
        {n: v.bfloat16() if v.is_floating_point() else v for n, v in sources.tensors("sibling").items()}, out
    )


def renamed(sources: Sources, out: Path) -> None:
    saved({f"model.{n.replace('layer', 'block')}": v for n, v in sources.tensors("base").items()}, out)


def resharded(sources: Sources, out: Path) -> None:
    base = list(sources.tensors("base").items())
    for part in range(4):
        saved(dict(base[part::4]), out, f"model-{part + 1:05}-of-00004.safetensors")


def optimizer_states(sources: Sources, out: Path) -> None:
    """AdamW's averages beside the fine-tune that they belong to, as a trainer saves them."""
    out.mkdir(parents=True)
    g = generator(7)
    state = {}
    for number, value in enumerate(sources.tensors("tuned").values()):
        if value.is_floating_point():
            average = torch.randn(value.shape, generator=g) * 1e-4
            state[number] = {"exp_avg": average, "exp_avg_sq": average**2, "step": torch.tensor(100.0)}
    shutil.copyfile(sources.tuned / "model.safetensors", out / "model.safetensors")
    torch.save({"state": state, "param_groups": []}, out / "optimizer.pt")


def text(sources: Sources, out: Path) -> None:
    """tokenizer.json with one token more."""
    shutil.copytree(sources.base, out)
    path = out / "tokenizer.json"
    words = path.read_text()
    place = words.index('"vocab"') + len(words) // 3
    place = words.index(",", place) + 1
    path.write_text(f'{words[:place]}"newtoken":99999,{words[place:]}')


def opaque(suffix: str, pack: Callable[[Tensors], bytes]) -> Make:
    """The base in another format."""

    def make(sources: Sources, out: Path) -> None:
        out.mkdir(parents=True)
        (out / f"model.{suffix}").write_bytes(pack(sources.tensors("base")))

    return make


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def message(number: int, body: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(body)) + body


def onnx(tensors: Tensors, front: bytes = b"benchmark") -> bytes:
    """A model of ONNX's format with its weights as initializers."""
    graph = []
    for name, value in tensors.items():
        kind = {torch.float32: 1, torch.int64: 7}[value.dtype]
        dims = b"".join(b"\x08" + varint(size) for size in value.shape)
        body = dims + b"\x10" + varint(kind) + message(8, name.encode()) + message(9, value.numpy().tobytes())
        graph.append(message(5, body))
    return b"\x08\x08" + message(2, front) + message(7, b"".join(graph))


def npz(tensors: Tensors) -> bytes:
    out = io.BytesIO()
    np.savez(out, **{name: value.numpy() for name, value in tensors.items()})
    return out.getvalue()


def npy(tensors: Tensors) -> bytes:
    out = io.BytesIO()
    np.save(out, tensors[EMBEDDING].numpy())
    return out.getvalue()


def tar(tensors: Tensors) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, value in tensors.items():
            entry = tarfile.TarInfo(f"{name}.bin")
            entry.size = value.numpy().nbytes
            archive.addfile(entry, io.BytesIO(value.numpy().tobytes()))
    return out.getvalue()


def flat_shard(tensors: Tensors) -> bytes:
    """All parameters behind one another in one, as FSDP has them."""
    out = io.BytesIO()
    floats = [value.flatten() for value in tensors.values() if value.is_floating_point()]
    torch.save({"_flat_param": torch.cat(floats)}, out)
    return out.getvalue()


def msgpack(tensors: Tensors) -> bytes:
    """A map of names to bytes, as Flax writes it."""
    parts = [b"\xdf", struct.pack(">I", len(tensors))]
    for name, value in tensors.items():
        data = value.numpy().tobytes()
        parts += [b"\xd9", bytes([len(name)]), name.encode(), b"\xc6", struct.pack(">I", len(data)), data]
    return b"".join(parts)


def hdf5(tensors: Tensors) -> bytes:
    """Contiguous datasets behind headers of some hundred bytes, as HDF5 has them (not a readable file)."""
    parts = [b"\x89HDF\r\n\x1a\n" + bytes(2040)]
    for name, value in tensors.items():
        parts += [name.encode().ljust(272, b"\0"), value.numpy().tobytes()]
    return b"".join(parts)


def distcp(tensors: Tensors) -> bytes:
    """One archive of torch's for each tensor, one behind the other, as torch's distributed checkpoints."""
    parts = []
    for value in tensors.values():
        out = io.BytesIO()
        torch.save(value, out)
        parts.append(out.getvalue())
    return b"".join(parts)


def zipped(tensors: Tensors) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, value in tensors.items():
            archive.writestr(name, value.numpy().tobytes())
    return out.getvalue()


def gguf(tensors: Tensors) -> bytes:
    """Large weights as Q8_0, the rest as float32."""
    import tempfile

    from gguf import GGMLQuantizationType, GGUFWriter, quants

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = GGUFWriter(path, "bert")
        for name, value in tensors.items():
            if value.is_floating_point():
                kind = GGMLQuantizationType.Q8_0 if value.ndim == 2 else GGMLQuantizationType.F32
                writer.add_tensor(name, quants.quantize(value.numpy(), kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def flipped(data: bytes) -> bytes:
    """One byte changed in the midst."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of edit."""

    make: Make
    first: Make | None = None
    """What is put into the store before it, beside base and fine-tune; its bytes do not count."""


def of_file(suffix: str, pack: Callable[[Tensors], bytes], change: Callable[[bytes], bytes]) -> Kind:
    """A change of a file of another format, which is in the store."""
    return Kind(opaque(suffix, lambda tensors: change(pack(tensors))), opaque(suffix, pack))


KINDS: dict[str, Kind] = {
    "frozen layers": Kind(frozen),
    "full fine-tune": Kind(lambda s, out: saved(s.tensors("sibling"), out)),
    "soup 0.5/0.5": Kind(pairs(lambda x, y: (x + y) / 2)),
    "soup in bf16": Kind(pairs(lambda x, y: ((x + y) / 2).bfloat16())),
    "lerp 0.3": Kind(pairs(lambda x, y: torch.lerp(x, y, 0.3))),
    "slerp 0.4": Kind(pairs(lambda x, y: slerp(0.4, x, y) if x.ndim > 1 else torch.lerp(x, y, 0.4))),
    "task arithmetic 0.6": Kind(pairs(lambda x, y: x + 0.6 * (y - x))),
    "TIES 20 %": Kind(pairs(ties)),
    "DARE 20 %": Kind(pairs(lambda x, y: dare(x, y, generator(x.numel())))),
    "LoRA adapter": Kind(adapter),
    "merged LoRA, adapter stored": Kind(merged_lora, adapter),
    "merged LoRA, adapter not stored": Kind(merged_lora),
    "bf16": Kind(each(torch.Tensor.bfloat16)),
    "bf16 truncated": Kind(each(truncated)),
    "fp16": Kind(each(torch.Tensor.half)),
    "fp16 there and back": Kind(each(lambda x: x.half().float())),
    "fp16 of bf16": Kind(each(lambda x: x.bfloat16().half())),
    "f64": Kind(each(torch.Tensor.double)),
    "fp8": Kind(each(lambda x: x.to(torch.float8_e4m3fn), 2)),
    "fp8 with scales": Kind(each(lambda x: (x * (448 / x.abs().max())).to(torch.float8_e4m3fn), 2)),
    "int8 with scales": Kind(int8_with_scales),
    "de-quantised int8": Kind(each(int8_turned_back, 2)),
    "int4": Kind(each(int4, 2)),
    "pruned 30 % by magnitude": Kind(each(without_smallest, 2)),
    "pruned 30 % at random": Kind(
        each(lambda x: x * (torch.rand(x.shape, generator=generator(x.numel())) > 0.3), 2)
    ),
    "pruned 2:4": Kind(each(two_of_four, 2)),
    "x 1.1": Kind(each(lambda x: x * 1.1)),
    "columns scaled": Kind(
        each(lambda x: x * (1 + 0.1 * torch.randn(x.shape[1], generator=generator(3))), 2)
    ),
    "transposed": Kind(each(lambda x: x.T, 2)),
    "columns permuted": Kind(columns_permuted),
    "neurons permuted": Kind(neurons_permuted),
    "half width": Kind(each(half_width)),
    "tensor-parallel split": Kind(tensor_parallel),
    "3 rows inserted": Kind(rows_inserted),
    "vocabulary padded": Kind(vocabulary(lambda x: torch.cat([x, torch.zeros(38, 384)]))),
    "vocabulary cut": Kind(vocabulary(lambda x: x[:20_000])),
    "vocabulary four times as large": Kind(vocabulary(lambda x: torch.cat([x, torch.zeros(91_566, 384)]))),
    "width doubled, tiled": Kind(each(lambda x: x.repeat(2, 2) / 2, 2)),
    "width doubled, on a diagonal": Kind(each(lambda x: torch.block_diag(x, x), 2)),
    "columns repeated": Kind(each(lambda x: x.repeat_interleave(2, 1), 2)),
    "columns padded": Kind(each(lambda x: torch.nn.functional.pad(x, (0, x.shape[1])), 2)),
    "layers dropped": Kind(layers((0, 2, 4))),
    "layers repeated": Kind(layers((0, 1, 2, 3, 2, 3, 4, 5))),
    "fused and stacked": Kind(fused),
    "q, k, v fused in bf16": Kind(fused_and_cast("base", torch.bfloat16)),
    "q, k, v fused in fp16": Kind(fused_and_cast("base", torch.float16)),
    "q, k, v of a fine-tune fused": Kind(fused_and_cast("tuned", torch.float32)),
    "fused q, k, v split in bf16": Kind(split_and_cast, fused_and_cast("sibling", torch.float32)),
    "renamed": Kind(renamed),
    "resharded": Kind(resharded),
    "optimizer states": Kind(optimizer_states),
    "tokenizer.json, one token more": Kind(text),
    "ONNX": Kind(opaque("onnx", onnx)),
    "ONNX shifted by 4 bytes": Kind(
        opaque("onnx", lambda t: onnx(t, b"benchmark 1.0")), opaque("onnx", onnx)
    ),
    "npz": Kind(opaque("npz", npz)),
    "npy": Kind(opaque("npy", npy)),
    "tar": Kind(opaque("tar", tar)),
    "zip": Kind(opaque("zip", zipped)),
    "flat FSDP shard": Kind(opaque("pt", flat_shard)),
    "distcp": Kind(opaque("distcp", distcp)),
    "h5": Kind(opaque("h5", hdf5)),
    "msgpack": Kind(opaque("msgpack", msgpack)),
    "GGUF, one byte changed": of_file("gguf", gguf, flipped),
    "GGUF, 100 bytes in front": of_file("gguf", gguf, lambda data: bytes(range(100)) + data),
}
