"""What sampled slots say, corrected to what was forecast."""

import numpy as np

from policy.interfaces import Bool, Float


def needed_chance(chance: Float, members: Bool, kept: Bool | None) -> Float:
    """Chance that anybody misses a class of blocks, (classes,).

    Args:
        chance: Chance that each user asks for each model, (users, models).
        members: Which model needs which class, (models, classes).
        kept: Classes on each device, (users, classes); None: devices keep nothing.
    """
    each = np.minimum(chance @ members.astype(np.float64), 1.0)
    each = each if kept is None else np.where(kept, 0.0, each)
    return np.asarray(1.0 - np.prod(1.0 - each, axis=0))


def first_need(coming: Float, later: Float, patience: float) -> Float:
    """Discounted chance that a class is missed: in the coming slot, else for the first time in a later one.

    Args:
        coming: Chance that it is missed in the coming slot, (classes,).
        later: The same in each slot after that.
        patience: Weight of each slot against the one before it, 0..1; 0: the coming slot alone counts.
    """
    return np.asarray(coming + (1.0 - coming) * patience * later / (1.0 - patience * (1.0 - later)))


def as_likely(value: Float, seen: Float, wanted: Float, class_bits: Float, samples: int) -> Float:
    """Correct values for what chance put into the samples: a class counts as often as it is forecast.

    Classes that few samples or none ask for take part of their value from the mean of all classes.

    Args:
        value: Mean over samples, (classes, 2^nodes).
        seen: Share of the samples that miss each class, (classes,).
        wanted: Chance that somebody misses it, (classes,).
        class_bits: (classes,).
        samples: How many.
    """
    typical = (value * class_bits[:, None]).sum(axis=0) / max(float((seen * class_bits).sum()), 1e-9)
    one = 1.0 / samples
    return np.asarray(wanted[:, None] * (value + one * typical) / (seen + one)[:, None])
