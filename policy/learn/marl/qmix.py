"""QMIX (Rashid et al., arXiv 1803.11485): VDN mixed by a monotone network, weights from the state."""

from torch import nn

from policy.learn.marl.critics import MonotoneMixer
from policy.learn.marl.vdn import Vdn
from policy.learn.marl.view import NUM_FEATURES


class Qmix(Vdn):
    """See `policy.learn.marl.vdn`; only the mixing differs."""

    name = "qmix"

    def make_mixer(self) -> nn.Module:
        """Monotone in every node's value: the best joint action is each node's best."""
        return MonotoneMixer(NUM_FEATURES, self.world_set.num_nodes)
