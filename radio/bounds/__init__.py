"""Upper bounds on the SNR that any beamformer can give to the weakest user."""

from radio.bounds.beam import beam_bound, one_user_bound
from radio.bounds.eigen import multiplier_bound, relaxation_columns
from radio.bounds.interior import ExactBound, exact_bound

__all__ = [
    "ExactBound",
    "beam_bound",
    "exact_bound",
    "multiplier_bound",
    "one_user_bound",
    "relaxation_columns",
]
