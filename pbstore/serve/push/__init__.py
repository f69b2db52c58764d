"""Taking models from clients of the Hub: xorbs and shards first, then a commit that makes a model of them."""

from pbstore.serve.push.intake import Intake, Refused

__all__ = ["Intake", "Refused"]
