"""Steps that work announces, so that a test can do something at each of them: die, fail, change a file."""

from collections.abc import Callable


class Steps:
    """Hooks that are called with a step's name before it is done."""

    def __init__(self) -> None:
        self._hooks: list[Callable[[str], None]] = []

    def on_step(self, hook: Callable[[str], None]) -> Callable[[], None]:
        """Call `hook` before each step; the result takes the hook away."""
        self._hooks.append(hook)
        return lambda: self._hooks.remove(hook)

    def step(self, name: str) -> None:
        """Announce a step."""
        for hook in self._hooks:
            hook(name)
