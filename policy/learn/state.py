"""State of torch's optimisers as plain arrays, for checkpoints."""

import torch

from policy.learn.checkpoint import Arrays


def optimizer_state(optimizer: torch.optim.Optimizer) -> Arrays:
    """Moments and step counts by `<parameter>.<name>`; learning rates are left to the schedule."""
    state = optimizer.state_dict()["state"]
    return {f"{place}.{key}": value.numpy() for place, own in state.items() for key, value in own.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, state: Arrays) -> None:
    """Inverse of `optimizer_state`."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in state.items():
        place, _, key = name.partition(".")
        states.setdefault(int(place), {})[key] = torch.from_numpy(value.copy())
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
