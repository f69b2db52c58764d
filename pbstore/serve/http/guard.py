"""The guards of a server: log and counters outermost, then limits, then who may do what."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route

from pbstore.serve.http.guard_access import AccessGuard, Rule
from pbstore.serve.http.guard_limits import LimitGuard, Work
from pbstore.serve.http.guard_log import Observer
from pbstore.serve.http.guard_settings import GuardSettings
from pbstore.serve.http.guard_tokens import TokenFile
from pbstore.serve.http.metrics import Metrics
from pbstore.serve.wire.signed import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Who may ask for what, how much, and who counts; for limits of connections see `connection`."""

    tokens: TokenFile | None = None
    """Who may ask; None for everybody."""
    anyone: str = "write"
    """Role of everybody where there are no tokens: `read` where others than this machine's users can ask."""
    signer: Signer = field(default_factory=Signer.fresh)
    """Signs URLs and access tokens; nodes that send clients to each other share its key."""
    metrics: Metrics = field(default_factory=Metrics)
    """Counts what is answered."""
    settings: GuardSettings = field(default_factory=GuardSettings)
    """Limits."""
    rules: Sequence[Rule] = ()
    """What of the routes needs less, or other, than the law says; see `AccessGuard`."""

    work: Work = field(init=False, compare=False, repr=False)
    """What is worked on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "work", Work(self.settings.requests))

    def middleware(self) -> tuple[Middleware, ...]:
        """ASGI middleware, the first outermost."""
        return (
            Middleware(Observer, metrics=self.metrics),
            Middleware(LimitGuard, settings=self.settings, work=self.work),
            Middleware(
                AccessGuard, tokens=self.tokens, signer=self.signer, anyone=self.anyone, rules=self.rules
            ),
        )

    def routes(self, context: object) -> Sequence[BaseRoute]:
        """`GET /metrics`; it needs a token that may read, where there are tokens."""
        return (Route("/metrics", self.metrics.endpoint, methods=["GET"], name="metrics"),)
