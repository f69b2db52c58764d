"""What can go wrong in the policy's world.

PolicyError
├── PlacementError    a placement breaks a capacity, a budget or a shape
├── RateError         the delay model gave a rate that is no rate
├── TraceError        a trace or a trace file is broken
├── DivergedError     training or a policy gave numbers that are none
├── SchemeError       no such scheme, or it cannot run on this scenario
└── StaleResultsError kept results were made by other settings or code

Bad arguments are plain `ValueError`/`TypeError`.
"""


class PolicyError(Exception):
    """Base of all errors about the state of the policy's world."""

    exit_code = 1


class PlacementError(PolicyError):
    """A placement that no set of edge nodes can hold."""


class RateError(PolicyError):
    """A delay model answered with NaN, a negative rate or a wrong shape."""


class TraceError(PolicyError):
    """A trace that cannot be read, or whose content is not what its hash says."""


class SchemeError(PolicyError):
    """A scheme that is not known, or cannot run on this scenario."""


class StaleResultsError(PolicyError):
    """Kept results that something else made than what is asked for; nothing is mixed."""


class DivergedError(PolicyError):
    """Weights, losses or scores that are no numbers; nothing of them is kept or played."""
