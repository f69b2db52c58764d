"""How a member of the zoo is trained; read without torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How one classifier is trained."""

    seed: int
    epochs: int = 2
    batch_rows: int = 16
    learning_rate: float = 2e-4
    """Peak of AdamW's rate; it rises over the first tenth of the steps and then falls to zero."""
    weight_decay: float = 0.0
    max_rows: int | None = None
    """Only the first rows of the text; all by default."""
    max_tokens: int = 64

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_rows, self.max_tokens) < 1 or self.learning_rate <= 0:
            raise ValueError(f"epochs, batch_rows, max_tokens and learning_rate must be > 0, got {self}")
