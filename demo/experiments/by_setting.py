"""Numbers of a command line that may differ between settings, and which settings it plays."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from demo.experiments.ten_settings import Setting

OTHERS = "others"


@dataclass(frozen=True, slots=True, kw_only=True)
class BySetting:
    """A number for each setting."""

    own: Mapping[str, int] = field(default_factory=dict)
    """Of the settings that are named."""
    others: int | None = None
    """Of all that are not; None: there is none."""

    def of(self, name: str) -> int:
        """The number of a setting.

        Raises:
            KeyError: If it has none.
        """
        number = self.own.get(name, self.others)
        if number is None:
            raise KeyError(name)
        return number


def by_setting(text: str) -> BySetting:
    """Read `64` or `p1=160,others=148`; for argparse."""
    if "=" not in text:
        return BySetting(others=_number(text))
    pairs = [part.partition("=") for part in text.split(",")]
    numbers = {name.strip(): _number(number) for name, _, number in pairs}
    if len(numbers) != len(pairs):
        raise argparse.ArgumentTypeError(f"{text!r} names a setting twice")
    return BySetting(
        own={name: number for name, number in numbers.items() if name != OTHERS}, others=numbers.get(OTHERS)
    )


def _number(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number >= 0, nor name=number,...,others=number"
        )
    return int(text)


def at_least_one(text: str) -> int:
    """A whole number >= 1; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number >= 1")
    return int(text)


def settings_chosen(
    parser: argparse.ArgumentParser, options: argparse.Namespace, settings: Sequence[Setting]
) -> list[Setting]:
    """The settings that `--settings` names (all, if none), each with a first world and a number of worlds.

    Ends the program with one line if a name is none of a setting, or a setting has no number.
    """
    names = [setting.name for setting in settings]
    wanted = options.settings or names
    numbers = {"--first-world": options.first_world, "--worlds": options.worlds}
    for option, asked in (("--settings", wanted), *((key, each.own) for key, each in numbers.items())):
        unknown = [name for name in asked if name not in names]
        if unknown:
            parser.error(f"{option}: no setting {unknown[0]!r}; there are {', '.join(names)}")
    for option, each in numbers.items():
        without = [name for name in wanted if name not in each.own and each.others is None]
        if without:
            parser.error(f"{option} has no number for {', '.join(without)}: add others=NUMBER")
    if any(options.worlds.of(name) < 1 for name in wanted):
        parser.error("--worlds must be >= 1")
    return [setting for setting in settings if setting.name in wanted]
