"""Schemes x worlds x seeds -> paired statistics, resumable and parallel."""

from policy.evaluation.episodes import EpisodeResult, WorldMaker, draw_world
from policy.evaluation.harness import Evaluation, SchemeSummary, evaluate
from policy.evaluation.load import Load, load_of_episode
from policy.evaluation.match import Match, Progress, play
from policy.evaluation.playable import check_playable, playable

__all__ = [
    "EpisodeResult",
    "Evaluation",
    "Load",
    "Match",
    "Progress",
    "SchemeSummary",
    "WorldMaker",
    "check_playable",
    "draw_world",
    "evaluate",
    "load_of_episode",
    "play",
    "playable",
]
