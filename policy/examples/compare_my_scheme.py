"""A scheme of one's own beside known ones on the same worlds, with an interval for each difference."""

from dataclasses import replace
from pathlib import Path

from policy import Scenario, evaluate, load_scenario
from policy.examples.my_scheme import ENTRY


def main(folder: Path) -> None:
    """Play four short worlds; a real comparison takes 64 of full length, see `pbcast evaluate`."""
    full = load_scenario("findings")
    scenario = Scenario(replace(full.config, num_slots=6), full.catalog)
    outcome = evaluate(scenario, ["lru", "ewma-greedy", ENTRY], worlds=4, bound_worlds=1, folder=folder)
    print(outcome)
    for name, row in outcome.schemes.items():
        print(f"{name}: {row.mean_delay_s:.2f} s per slot, {row.hit_ratio:.0%} of requests without the cloud")
    pair = outcome.paired[f"{ENTRY.name}|lru"]
    low, high = pair.ci95
    print(f"{ENTRY.name} takes {pair.reduction:.1%} less than lru (95 % interval {low:.1%} to {high:.1%})")
    print(
        f"no scheme takes less than {outcome.bounds['hindsight_lower_s']:.2f} s per slot on the first world"
    )


if __name__ == "__main__":
    main(Path("out/compare"))  # finished episodes are kept there
