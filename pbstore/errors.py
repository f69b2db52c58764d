"""What can go wrong with a store: one tree of errors, each with its exit code.

    PBStoreError                  (exit code 1)
    ├── NotAStoreError            the folder is not a block store, or of a version this code does not know
    ├── StoreLockedError          another process has been writing for too long
    ├── PlanOutdatedError         the store has changed since the plan was made
    ├── ModelMissingError         no manifest under this name
    │   ├── ModelUnreachableError nor is it known elsewhere: who may have it does not answer
    │   ├── RevisionMissingError  the model is there, but not this revision of it
    │   └── RevisionInTrashError  the trash has earlier revisions of the model only
    ├── RevisionInUseError        it is the newest of a model's revisions
    ├── ModelExistsError          the name is taken by another content
    ├── BlockMissingError         no block under this id (also a KeyError)
    ├── BlockInUseError           a manifest or another block needs the block
    ├── CapacityError             the store has no room for it
    │   └── EvictGoalError        so much cannot be freed
    ├── HubError                  a Hub did not give a model
    ├── ServerStartError          the server did not come up
    ├── MountError                a store cannot be mounted here
    ├── CheckpointError           a file of a checkpoint is damaged, of an unknown form, or refused
    │   └── NotWeightsError       a pickle holds something else than weights
    ├── CodecError                (exit code 3) a payload cannot be decoded
    ├── BadFileError              a file is not what its format says (also a ValueError)
    │   ├── ManifestError         a manifest that breaks a rule
    │   └── SourceChangedError    a folder that is stored changes while it is read
    └── IntegrityError            (exit code 3) bytes that do not hash to what they should
        ├── BlockCorruptError     a block
        ├── FileCorruptError      a file of a model
        ├── ManifestLostError     a model's manifest is gone
        ├── PackCorruptError      a record of a pack
        ├── IndexCorruptError     the index
        └── UnsafeDeletionError   what is left of index, packs and manifests does not tell what may go

Every error keeps its data in `args`, so it survives pickling between processes. The rooms of a server
(`pbstore.serve`) have errors of their own, children of these, in the room that raises them.
"""

from typing import ClassVar


class PBStoreError(Exception):
    """Base of all errors about the state of a store."""

    exit_code: ClassVar[int] = 1


class NotAStoreError(PBStoreError):
    """The folder is not a block store that this code can open."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path} is not a block store: {self.why}"


class StoreLockedError(PBStoreError):
    """Another process holds the writer's lock."""

    def __init__(self, path: str, waited_s: float) -> None:
        super().__init__(path, waited_s)
        self.path, self.waited_s = path, waited_s

    def __str__(self) -> str:
        return f"store {self.path} is being written by another process (waited {self.waited_s:g} s)"


class ModelMissingError(PBStoreError):
    """There is no model of this name."""

    def __init__(self, name: str, where: str = "in the store", near: str = "") -> None:
        """`near` is a name that there is and that was perhaps meant."""
        super().__init__(name, where, *([near] if near else []))
        self.name, self.where, self.near = name, where, near

    def __str__(self) -> str:
        meant = f", did you mean {self.near!r}?" if self.near else ""
        return f"no model named {self.name!r} {self.where}{meant}"


class ModelUnreachableError(ModelMissingError):
    """No model of this name is here, and who may have it cannot be reached."""

    def __str__(self) -> str:
        return f"{self.name!r} is not here, and {self.where} cannot be reached: try again later"


class RevisionMissingError(ModelMissingError):
    """The model is there, but not this revision of it."""

    def __init__(self, name: str, revision: str) -> None:
        super().__init__(name, revision)
        self.revision = revision

    def __str__(self) -> str:
        return f"no revision {self.revision!r} of {self.name!r}"


class RevisionInTrashError(ModelMissingError):
    """The trash has earlier revisions of a model, and not the model itself."""

    def __init__(self, name: str, commit: str) -> None:
        super().__init__(name, "in the trash")
        self.args = (name, commit)
        self.commit = commit

    def __str__(self) -> str:
        here = f"{self.name}@{self.commit[:12]}"
        return f"the trash has no model {self.name!r}, but earlier revisions of it: restore {here}"


class RevisionInUseError(PBStoreError):
    """A revision is what the model's name means by itself."""

    def __init__(self, name: str, commit: str) -> None:
        super().__init__(name, commit)
        self.name, self.commit = name, commit

    def __str__(self) -> str:
        return (
            f"{self.commit[:12]} is what {self.name!r} means now: take an earlier one back first"
            f" (`pbcast store cp {self.name}@~1 {self.name}`), or remove {self.name!r} with all its revisions"
        )


class ModelExistsError(PBStoreError):
    """The name is taken by a model with other content."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"a model named {self.name!r} with other content is in the store already: remove it first"


class BlockMissingError(PBStoreError, KeyError):
    """There is no block of this id."""

    def __init__(self, block_id: str, needed_by: str = "") -> None:
        super().__init__(block_id, needed_by)
        self.block_id, self.needed_by = block_id, needed_by

    def __str__(self) -> str:
        wanted = f", needed by {self.needed_by}" if self.needed_by else ""
        return f"block {self.block_id[:12]} is not in the store{wanted}"


class BlockInUseError(PBStoreError):
    """A manifest or another block needs the block."""

    def __init__(self, block_id: str, needed_by: str) -> None:
        super().__init__(block_id, needed_by)
        self.block_id, self.needed_by = block_id, needed_by

    def __str__(self) -> str:
        return f"block {self.block_id[:12]} is needed by {self.needed_by}: not deleted"


class CapacityError(PBStoreError):
    """The store has no room for what was to be written."""

    def __init__(self, wanted_bytes: int, used_bytes: int, capacity_bytes: int) -> None:
        super().__init__(wanted_bytes, used_bytes, capacity_bytes)
        self.wanted_bytes, self.used_bytes, self.capacity_bytes = wanted_bytes, used_bytes, capacity_bytes

    def __str__(self) -> str:
        return (
            f"store is full: {self.wanted_bytes} bytes more do not fit, "
            f"{self.used_bytes} of {self.capacity_bytes} bytes are used"
        )


class EvictGoalError(CapacityError):
    """All that may go does not free what is wanted."""

    def __init__(self, wanted_bytes: int, possible_bytes: int) -> None:
        PBStoreError.__init__(self, wanted_bytes, possible_bytes)
        self.wanted_bytes, self.possible_bytes = wanted_bytes, possible_bytes

    def __str__(self) -> str:
        return (
            f"cannot free {self.wanted_bytes} bytes: the trash and all models that are not pinned have "
            f"{self.possible_bytes} to give; nothing was removed"
        )


class PlanOutdatedError(PBStoreError):
    """The store has changed since a plan was made."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"store {self.path} has changed since the plan was made: nothing was done, plan again"


class MountError(PBStoreError):
    """A store cannot be mounted here."""


class HubError(PBStoreError):
    """A Hub did not give a model."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


class ServerStartError(PBStoreError):
    """A server did not come up."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(address, why)
        self.address, self.why = address, why

    def __str__(self) -> str:
        return f"cannot serve at {self.address}: {self.why}"


class CheckpointError(PBStoreError):
    """A checkpoint's file is damaged, of an unknown form, or of a form that is refused."""


class NotWeightsError(CheckpointError):
    """A file holds no weights by name: it is something else that is called so."""


class CodecError(PBStoreError):
    """A payload cannot be decoded: it is damaged, of another codec, or of another length."""

    exit_code = 3


class BadFileError(PBStoreError, ValueError):
    """A file is not what its format says."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class ManifestError(BadFileError):
    """A manifest breaks a rule of the format."""


class SourceChangedError(BadFileError):
    """A file or folder changes while it is read."""

    def __str__(self) -> str:
        return f"{self.path}: changed while it was read: {self.why}"


class IntegrityError(PBStoreError):
    """Bytes do not hash to what they should."""

    exit_code: ClassVar[int] = 3


class BlockCorruptError(IntegrityError):
    """Stored bytes do not decode to the id they are filed under."""

    def __init__(self, block_id: str, why: str) -> None:
        super().__init__(block_id, why)
        self.block_id, self.why = block_id, why

    def __str__(self) -> str:
        return f"block {self.block_id[:12]} is corrupt: {self.why}"


class FileCorruptError(IntegrityError):
    """The blocks of a file do not add up to the file that was added."""

    def __init__(self, name: str, path: str, expected: str, actual: str) -> None:
        super().__init__(name, path, expected, actual)
        self.name, self.path, self.expected, self.actual = name, path, expected, actual

    def __str__(self) -> str:
        return (
            f"file {self.path} of {self.name} is corrupt: "
            f"expected sha256 {self.expected[:12]}, got {self.actual[:12]}"
        )


class ManifestLostError(IntegrityError):
    """The index knows a model whose manifest is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"the manifest of {self.name} is lost: `repair` takes it from another store that has the model"


class PackCorruptError(IntegrityError):
    """A record of a pack does not say what the index says."""

    def __init__(self, pack: int, offset: int, why: str) -> None:
        super().__init__(pack, offset, why)
        self.pack, self.offset, self.why = pack, offset, why

    def __str__(self) -> str:
        return f"pack {self.pack} is corrupt at byte {self.offset}: {self.why}"


class IndexCorruptError(IntegrityError):
    """The index cannot be read."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"the store's index is damaged ({self.why}): `pbcast store repair` builds it anew"


class UnsafeDeletionError(IntegrityError):
    """Something is damaged, so that it is not known what nobody needs: nothing was deleted."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why

    def __str__(self) -> str:
        return f"nothing was deleted, for the store is damaged ({self.why}): run `pbcast store repair` first"
