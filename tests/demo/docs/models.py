"""Two small real models in folders, as the tutorials want them."""

from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from demo.zoo.train import seeded

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three"]


def write_models(folder: Path) -> None:
    """`my-base`, and `my-finetune` with another head."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with seeded(0):
        model = BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), num_labels=2, **sizes))
    tokenizer = BertTokenizer(vocab={word: at for at, word in enumerate(WORDS)})
    for name in ("my-base", "my-finetune"):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        with torch.no_grad():
            model.classifier.weight += 0.25
