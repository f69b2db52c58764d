"""What of a folder is stored: all of it, but for what is left out by name, or some files alone."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

VERSION_CONTROL = (".git", ".hg", ".svn")
CACHES = (".cache/huggingface", "__pycache__", ".ipynb_checkpoints", ".DS_Store")
LEFT_OUT = (*VERSION_CONTROL, *CACHES)
"""Left out where the caller has no other wish: no part of a model, and made again by who needs it."""
OPTIMIZER = (
    "optimizer.pt",
    "optimizer.bin",
    "optimizer*.safetensors",
    "optimizer_*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "global_step*",
    "*_optim_states.pt",
    "random_states_*.pkl",
)
"""States of a training run, which no model needs to be used: twice its size, and left out on request only."""
GROUPS = {"optimizer": OPTIMIZER, "vcs": VERSION_CONTROL, "caches": CACHES}
"""Words that stand for several patterns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which files and folders under a model's folder are its own.

    A pattern with a slash is compared with the whole path or its end, one without with each single name.
    """

    exclude: tuple[str, ...] = ()
    """Patterns, or words of `GROUPS`, of what is left out."""
    include: tuple[str, ...] = ()
    """The same, of what is taken all the same."""
    apart: frozenset[str] = frozenset()
    """Folders that are models of their own: no part of this one, and not named as left out."""
    files: tuple[str, ...] | None = None
    """Names of the files that are all of it, None for all but what is left out."""

    def leaves_out(self, path: str) -> bool:
        """Whether a file or folder is left out; `path` is relative, with slashes."""
        return _matches(path, self.exclude) and not _matches(path, self.include)


ALL = Selection()
"""Everything."""


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    every = (one for pattern in patterns for one in GROUPS.get(pattern, (pattern,)))
    return any(_is_of(path, pattern.strip("/")) for pattern in every)


def _is_of(path: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")
