"""The commands of `pbcast`: where each lies, what it does in a line, and what it needs to be installed."""

from dataclasses import dataclass

__all__ = ["COMMANDS", "EXTRAS", "Home", "needs_extra"]


@dataclass(frozen=True, slots=True)
class Home:
    """Where a command lies."""

    module: str
    """Its `app` is a Typer."""
    help: str
    """Its first line, shown in the list of commands without importing it."""
    extra: str = ""
    """What brings all that it needs; empty: the plain install."""


COMMANDS: dict[str, Home] = {
    "store": Home("demo.cli.store", "Keep models in a deduplicating store of parameter blocks."),
    "serve": Home(
        "demo.cli.serve",
        "Serve a store until Ctrl-C: point HF_ENDPOINT at the address that is shown.",
        extra="serve",
    ),
    "device": Home(
        "demo.cli.device",
        "Keep blocks that clients fetch until Ctrl-C: point HF_XET_CLIENT_UNIX_SOCKET_PATH at the socket.",
        extra="serve",
    ),
    "origin": Home(
        "demo.cli.origin",
        "Look at models on an object store, remove and restore them, collect what nobody needs.",
        extra="s3",
    ),
    "dashboard": Home(
        "demo.cli.dashboard",
        "Show a run as it happens, or again: who sends what to whom, caches, delays, and why. Until Ctrl-C.",
        extra="all",
    ),
    "report": Home(
        "demo.cli.report",
        "Write one page about a run: figures, pictures, tables, the timeline of a slot, settings, versions.",
        extra="all",
    ),
    "doctor": Home(
        "demo.cli.doctor",
        "Say what this machine has of what pbcast needs; exit code 1 if it lacks something.",
    ),
    "run": Home(
        "demo.cli.run",
        "Real models through the whole chain: stores, placement, CoMP broadcast, reassembly, inference.",
        extra="all",
    ),
    "emulate": Home(
        "demo.cli.emulate",
        "A live edge: nodes that decide, blocks that are broadcast once, models that run at the other end.",
        extra="all",
    ),
    "replay": Home(
        "demo.cli.replay",
        "Tell a log again, line by line, and check its laws: numbers, hashes, capacities, sums of bytes.",
        extra="all",
    ),
    "radio": Home(
        "demo.cli.radio",
        "Solve one CoMP broadcast with every solver and baseline, and print the proven gap of each.",
        extra="radio,show",
    ),
    "train": Home(
        "demo.cli.train",
        "Train on worlds drawn at random, stop early on validation worlds; minutes on one core.",
        extra="policy",
    ),
    "evaluate": Home(
        "demo.cli.evaluate",
        "Play schemes on the same worlds: delays with intervals, paired reductions, and "
        "what is left to gain.",
        extra="all",
    ),
    "experiment": Home(
        "demo.cli.experiment",
        "Answer a question of the papers on the real chain: curves with intervals, as CSV, SVG and PDF.",
        extra="all",
    ),
    "zoo": Home(
        "demo.zoo.cli",
        "Fetch real models by name and pinned sha256, train their children, list them with their scores.",
        extra="all",
    ),
    "explain": Home(
        "demo.cli.explain",
        "Take one decision of the learned policy apart: forecast demand, seconds saved, price of room.",
        extra="policy",
    ),
}

EXTRAS: dict[str, tuple[str, ...]] = {
    # extra: modules that come with it
    "torch": ("torch", "transformers", "peft", "gguf", "huggingface_hub", "accelerate"),
    "serve": ("starlette", "uvicorn", "uvloop", "httptools", "httpx", "prometheus_client", "fsspec"),
    "s3": ("obstore",),
    "radio": ("cvxpy", "highspy", "scipy"),
    "policy": ("gymnasium", "pettingzoo", "pyarrow"),
    "show": ("matplotlib",),
    "emulate": ("pyroute2", "raptorq"),
    "ray": ("ray",),
}


def needs_extra(module: str | None) -> str | None:
    """The extra that brings a module which is not installed; None if it is none of ours to bring."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, brings in EXTRAS.items() if package in brings), None)
