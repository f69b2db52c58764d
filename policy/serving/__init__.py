"""How a slot is served: which nodes fetch what, who is sent what when, searched together."""

from policy.serving.effort import Effort
from policy.serving.serve import serve_planned

__all__ = ["Effort", "serve_planned"]
