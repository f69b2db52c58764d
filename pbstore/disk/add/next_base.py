"""Which stored model a new one runs along: the tensor behind the last match is a likely next base."""

from dataclasses import dataclass

from pbstore.blocks import StoredBlock
from pbstore.codecs.types import TensorSpec
from pbstore.disk.index import sketches
from pbstore.disk.models import Models
from pbstore.hashing import BlockId
from pbstore.manifest import BaseLink


@dataclass(frozen=True, slots=True)
class Guess:
    """A guessed base, and when it was guessed."""

    base: sketches.Neighbour | None
    turn: int
    serial: int
    """How many were made before."""
    near: int | None
    """Where the trail is, whether or not a base was found there."""


class Trail:
    """Guesses the next base from the last matches, though some blocks are still being encoded.

    It finds bases where sketches do not: of small tensors, and of weights that changed a lot.
    """

    def __init__(self, models: Models, base: BaseLink | None = None) -> None:
        self._models = models
        self._passed: BlockId | None = None
        """The last block that was stored already, if it was not yet looked up."""
        self._number: int | None = None
        self._turn = self._serial = 0
        for tensor in models.tensors(base.name) if base is not None else ():
            if len(tensor.pieces) == 1:
                self.follow(tensor.pieces[0].block_id)
                self._look_up()
                self._number = None if self._number is None else self._number - 1
                return

    def follow(self, block_id: BlockId) -> None:
        """The model has a block that is stored already: the trail leads on from it, or from its base."""
        self._passed = block_id

    def guess(self, spec: TensorSpec | None) -> Guess:
        """The likely base of the next tensor; the trail leads on as if it were right."""
        self._look_up()
        self._serial += 1
        found = None
        if self._number is not None and spec is not None:
            found = sketches.neighbour(self._models.connection, self._number, spec)
        if found is not None:
            self._number = found.number
        return Guess(found, self._turn, self._serial, self._number)

    def learn(self, guess: Guess, stored: StoredBlock) -> None:
        """A block was encoded: lead the trail on from its true base, unless a later match is known."""
        self._look_up()
        expected = guess.base
        if not stored.needs or guess.turn != self._turn:
            return
        if expected is not None and stored.needs[0] == expected.block_id:
            return
        actual = sketches.number_of(self._models.connection, stored.needs[0])
        if actual is not None and expected is not None and self._number is not None:
            self._number += actual - expected.number
        elif actual is not None:
            self._number = max(actual + self._serial - guess.serial, self._number or 0)

    def _look_up(self) -> None:
        """Lead the trail on from the last block that was stored already."""
        if self._passed is None:
            return
        location = self._models.find(self._passed)
        if location is not None:
            needs = location.record.needs
            number = sketches.number_of(self._models.connection, needs[0] if needs else self._passed)
            if number is not None:
                self._number = number
                self._turn += 1
        self._passed = None
