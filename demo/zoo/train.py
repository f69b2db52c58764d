"""Short, real, bit-repeatable fine-tuning of a BERT classifier whose lower layers are frozen.

The frozen layers see every text once; what they give is kept in memory, and only the layers above are run and
trained (the price: no dropout below). Order and dropout of an epoch depend only on (seed, epoch), so that a
training that was interrupted and resumed at an epoch ends in the same bits as one that was not.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from demo.zoo.cache import PARTIAL
from demo.zoo.hub import Net, Tokenizer
from demo.zoo.train_settings import TrainSettings

Rows = Sequence[tuple[str, int]]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

_BUCKET_BATCHES = 8
_ENCODE_ROWS = 32


@dataclass(frozen=True, slots=True)
class Features:
    """What the frozen layers give for each row."""

    hidden: list[Tensor]
    """(tokens, width) a row; rows differ in their number of tokens."""
    labels: Tensor
    """(rows,)"""

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Padded hidden states (rows, tokens, width), attention mask (rows, tokens) and labels (rows,)."""
        picked = [self.hidden[row] for row in rows]
        hidden = nn.utils.rnn.pad_sequence(picked, batch_first=True)
        lengths = torch.tensor([len(one) for one in picked])
        mask = torch.arange(hidden.shape[1])[None, :] < lengths[:, None]
        return hidden, mask, self.labels[list(rows)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator (dropout and new layers draw from it), then put its state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def epoch_seed(seed: int, epoch: int) -> int:
    """A 63-bit seed of its own for each epoch."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{epoch}".encode()).digest()[:8], "big") >> 1


def freeze_bottom(model: Net, frozen_layers: int) -> None:
    """Freeze the embeddings and the lowest encoder layers of a BERT classifier."""
    bert = model.bert
    for part in (bert.embeddings, *bert.encoder.layer[:frozen_layers]):
        part.requires_grad_(False)


@torch.no_grad()
def frozen_features(
    model: Net, tokenizer: Tokenizer, rows: Rows, *, frozen_layers: int, max_tokens: int
) -> Features:
    """Run the embeddings and the lowest `frozen_layers` layers over all rows, once, without dropout."""
    was_training = model.training
    model.eval()
    ids = [tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"] for text, _ in rows]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    hidden: dict[int, Tensor] = {}
    for start in range(0, len(order), _ENCODE_ROWS):
        picked = order[start : start + _ENCODE_ROWS]
        tokens = nn.utils.rnn.pad_sequence([torch.tensor(ids[row]) for row in picked], batch_first=True)
        mask = (
            torch.arange(tokens.shape[1])[None, :] < torch.tensor([len(ids[row]) for row in picked])[:, None]
        )
        out = model.bert.embeddings(input_ids=tokens)
        for layer in model.bert.encoder.layer[:frozen_layers]:
            out = layer(out, attention_mask=additive_mask(mask, out.dtype))
        hidden.update({row: out[at, : len(ids[row])].clone() for at, row in enumerate(picked)})
    model.train(was_training)
    return Features([hidden[row] for row in range(len(ids))], torch.tensor([label for _, label in rows]))


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Mask (rows, tokens) of real tokens as what attention adds to its scores, (rows, 1, 1, tokens)."""
    return torch.where(mask, 0.0, torch.finfo(dtype).min).to(dtype)[:, None, None, :]


def tail_logits(model: Net, hidden: Tensor, mask: Tensor, *, frozen_layers: int) -> Tensor:
    """Logits (rows, labels) from the output of the frozen layers."""
    added = additive_mask(mask, hidden.dtype)
    for layer in model.bert.encoder.layer[frozen_layers:]:
        hidden = layer(hidden, attention_mask=added)
    logits: Tensor = model.classifier(model.dropout(model.bert.pooler(hidden)))
    return logits


def batches(lengths: Sequence[int], batch_rows: int, generator: torch.Generator) -> list[list[int]]:
    """All rows once, in random batches of rows of like length (so that little is padded)."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    width = batch_rows * _BUCKET_BATCHES
    buckets = [
        sorted(order[at : at + width], key=lambda row: lengths[row]) for at in range(0, len(order), width)
    ]
    batched = [bucket[at : at + batch_rows] for bucket in buckets for at in range(0, len(bucket), batch_rows)]
    return [batched[at] for at in torch.randperm(len(batched), generator=generator).tolist()]


def learning_rate_at(step: int, steps: int, settings: TrainSettings) -> float:
    """Linear warm-up over a tenth of the steps, then linear decay to zero."""
    warm = max(1, steps // 10)
    return settings.learning_rate * min(1.0, (step + 1) / warm) * (1 - step / steps)


def train_tail(
    model: Net,
    features: Features,
    settings: TrainSettings,
    *,
    frozen_layers: int,
    state_path: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Train a BERT classifier, perhaps with adapters inside, on its frozen layers' output; see `train`."""

    def loss(rows: Sequence[int]) -> Tensor:
        hidden, mask, labels = features.batch(rows)
        return nn.functional.cross_entropy(
            tail_logits(model, hidden, mask, frozen_layers=frozen_layers), labels
        )

    lengths = [len(one) for one in features.hidden]
    train(model, lengths, loss, settings, state_path=state_path, progress=progress)


def train(
    model: Net,
    lengths: Sequence[int],
    loss: Callable[[Sequence[int]], Tensor],
    settings: TrainSettings,
    *,
    state_path: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Train, in place, every parameter of `model` that asks for a gradient.

    Args:
        model: What is trained.
        lengths: Tokens of each training row.
        loss: Mean loss of a batch, given its row numbers.
        settings: How.
        state_path: Where the state is kept after each epoch; what is there already is resumed.
        progress: Told after each step.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(
        list(trained.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    done = _resume(trained, optimizer, state_path)
    per_epoch = len(batches(lengths, settings.batch_rows, torch.Generator()))
    for epoch in range(done, settings.epochs):
        with seeded(epoch_seed(settings.seed, epoch)):
            model.train()
            order = batches(
                lengths, settings.batch_rows, torch.Generator().manual_seed(epoch_seed(~settings.seed, epoch))
            )
            for at, rows in enumerate(order):
                step, steps = epoch * per_epoch + at, settings.epochs * per_epoch
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, steps, settings)
                _step(optimizer, loss(rows))
                if progress is not None:
                    progress(step + 1, steps)
        _keep(trained, optimizer, epoch + 1, state_path)
    model.eval()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _resume(trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, path: Path | None) -> int:
    """Load what an interrupted training kept; return the number of epochs it had finished."""
    if path is None or not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["weights"].keys() != trained.keys():
        return 0
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(state["weights"][name])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epochs"])


def _keep(
    trained: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, epochs: int, path: Path | None
) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach() for name, value in trained.items()}
    partial = path.with_name(f"{PARTIAL}{path.name}")
    torch.save({"weights": weights, "optimizer": optimizer.state_dict(), "epochs": epochs}, partial)
    partial.replace(path)
