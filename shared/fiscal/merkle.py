"""Merkle trees as RFC 6962 (section 2.1) has them: SHA-256, a leaf and a node never look alike."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

EMPTY: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """The node a leaf is."""
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The one hash of all leaves in their order; EMPTY without any."""
    level = [leaf_hash(leaf) for leaf in leaves]
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else EMPTY


def path_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The nodes beside the way from `leaves[index]` up to the root, lowest first."""
    level, path = [leaf_hash(leaf) for leaf in leaves], []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            path.append(level[beside])
        level, index = _above(level), index // 2
    return path


def root_along(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that `path` leads to from the leaf at `index` of `size`; None when it leads nowhere.

    A leaf is in the tree of a root when this is that root.
    """
    if not 0 <= index < size:
        return None
    node, ahead = leaf_hash(leaf), list(path)
    while size > 1:
        beside = index ^ 1
        if beside < size:
            if not ahead:
                return None
            other = ahead.pop(0)
            node = node_hash(other, node) if index % 2 else node_hash(node, other)
        index, size = index // 2, (size + 1) // 2
    return None if ahead else node


def _above(level: Sequence[bytes]) -> list[bytes]:
    # Who has no partner goes up as it is.
    pairs = [level[at : at + 2] for at in range(0, len(level), 2)]
    return [node_hash(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
