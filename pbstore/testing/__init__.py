"""Tests to be reused by those who write a block store of their own; not imported by `import pbstore`."""

import pytest

pytest.register_assert_rewrite("pbstore.testing.block_store", "pbstore.testing.stateful")

from pbstore.testing.block_store import BlockStoreLaws  # noqa: E402 - after its asserts are to be explained
from pbstore.testing.stateful import BlockStoreMachine  # noqa: E402

__all__ = ["BlockStoreLaws", "BlockStoreMachine"]
