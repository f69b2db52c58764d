"""How members are made from MiniLM: as packaged, by training, by merging, casting or sharding."""

import shutil
from pathlib import Path

import torch

from demo.zoo.fusion import aligned, fused
from demo.zoo.hub import Net, hub
from demo.zoo.inference import label_config, load_tokenizer
from demo.zoo.train import freeze_bottom, frozen_features, seeded, train_tail
from demo.zoo.workshop import Workshop, save_adapter, save_model


def package_folder(shop: Workshop) -> None:
    """A model as its package holds it, file for file; the upstream card is kept beside ours."""
    shutil.copytree(shop.packaged, shop.out, dirs_exist_ok=True)
    if (card := shop.out / "README.md").exists():
        card.rename(shop.out / "README.upstream.md")


def frozen_bottom(shop: Workshop) -> None:
    """A classifier whose lower layers stay the base's."""
    model = _classifier(shop)
    freeze_bottom(model, shop.recipe.frozen_layers)
    _train(shop, model, model)
    save_model(shop, model)


def fresh_top(shop: Workshop) -> None:
    """A classifier whose layers above the frozen ones begin from random numbers, not from the base's."""
    model = _classifier(shop)
    freeze_bottom(model, shop.recipe.frozen_layers)
    with seeded(shop.settings.seed):
        for part in (*model.bert.encoder.layer[shop.recipe.frozen_layers :], model.bert.pooler):
            for linear in (one for one in part.modules() if isinstance(one, torch.nn.Linear)):
                torch.nn.init.normal_(linear.weight, std=model.config.initializer_range)
                torch.nn.init.zeros_(linear.bias)
    _train(shop, model, model)
    save_model(shop, model)


def lora(shop: Workshop) -> None:
    """A rank-8 LoRA adapter (Hu et al., arXiv 2106.09685) with a new classification head."""
    from peft import LoraConfig, TaskType, get_peft_model

    model = _classifier(shop)
    with seeded(shop.settings.seed):
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=8,
            lora_alpha=16,
            lora_dropout=0.05,
            target_modules=["query", "value"],
        )
        adapted = get_peft_model(model, config)
    _train(shop, adapted, model)
    save_adapter(shop, adapted)


def merge(shop: Workshop) -> None:
    """A base with its adapter added in."""
    from peft import PeftModel

    if shop.recipe.source is None:
        raise ValueError(f"expected an adapter in the recipe of {shop.recipe.name}, got none")
    model = _classifier(shop, seed=0)
    adapted = PeftModel.from_pretrained(model, str(shop.parents[shop.recipe.source]))
    save_model(shop, adapted.merge_and_unload())


def bf16_copy(shop: Workshop) -> None:
    """The base rounded to bfloat16."""
    _copy_except_weights(shop.base, shop.out)
    auto = hub()
    loader = (
        auto.AutoModelForSequenceClassification if shop.recipe.task == "classification" else auto.AutoModel
    )
    save_model(shop, loader.from_pretrained(str(shop.base), dtype=torch.bfloat16))


def soup(shop: Workshop) -> None:
    """The mean of two classifiers' weights (a uniform model soup, Wortsman et al., ICML 2022)."""
    model, state, theirs = _parents(shop)
    model.load_state_dict({name: (value + theirs[name]) / 2 for name, value in state.items()})
    save_model(shop, model)


def transported(shop: Workshop) -> None:
    """The mean of two classifiers whose neurons are matched first (Singh and Jaggi, NeurIPS 2020)."""
    model, state, theirs = _parents(shop)
    model.load_state_dict(fused(state, aligned(state, theirs, model.config.num_attention_heads)))
    save_model(shop, model)


def _parents(shop: Workshop) -> tuple[Net, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The base as a classifier, and the tensors of it and of the recipe's second model."""
    if shop.recipe.source is None:
        raise ValueError(f"expected a second model in the recipe of {shop.recipe.name}, got none")
    loader = hub().AutoModelForSequenceClassification
    model, other = (
        loader.from_pretrained(str(folder)) for folder in (shop.base, shop.parents[shop.recipe.source])
    )
    return model, model.state_dict(), other.state_dict()


def sharded_copy(shop: Workshop) -> None:
    """The base in several files of at most 20 MB."""
    _copy_except_weights(shop.base, shop.out)
    save_model(shop, hub().AutoModel.from_pretrained(str(shop.base)), max_shard_size="20MB")


def _classifier(shop: Workshop, seed: int | None = None) -> Net:
    """The base with a new, seeded head."""
    with seeded(shop.settings.seed if seed is None else seed):
        model = hub().AutoModelForSequenceClassification.from_pretrained(
            str(shop.base), **label_config(shop.text.labels)
        )
    model.config._name_or_path = shop.recipe.base
    return model


def _train(shop: Workshop, model: Net, bert: Net) -> None:
    """Train `model`, whose BERT classifier (perhaps with adapters inside) is `bert`."""
    frozen, settings = shop.recipe.frozen_layers, shop.settings
    tokenizer = load_tokenizer(shop.base)
    features = frozen_features(
        bert, tokenizer, shop.text.train, frozen_layers=frozen, max_tokens=settings.max_tokens
    )
    with_adapters = bert if model is bert else model.base_model.model
    train_tail(
        with_adapters,
        features,
        settings,
        frozen_layers=frozen,
        state_path=shop.state_path,
        progress=shop.progress,
    )


def _copy_except_weights(source: Path, out: Path) -> None:
    ignored = shutil.ignore_patterns("*.safetensors", "*.bin", "config.json", "README*", ".git*")
    shutil.copytree(source, out, ignore=ignored, dirs_exist_ok=True)
