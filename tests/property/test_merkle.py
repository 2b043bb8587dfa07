"""Laws of Merkle trees: what is in the tree is proved, and nothing else is."""

from hashlib import sha256

from hypothesis import assume, given
from hypothesis import strategies as st

from shared.fiscal.merkle import EMPTY, leaf_hash, node_hash, path_of, root_along, root_of

LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


@given(LEAVES, st.data())
def test_every_leaf_is_proved_by_its_path(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))

    path = path_of(leaves, index)

    assert root_along(leaves[index], index, len(leaves), path) == root_of(leaves)
    assert len(path) <= (len(leaves) - 1).bit_length()


@given(LEAVES, st.binary(max_size=40), st.data())
def test_no_other_leaf_is_proved(leaves: list[bytes], other: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    assume(other != leaves[index])

    path = path_of(leaves, index)

    assert root_along(other, index, len(leaves), path) != root_of(leaves)


@given(LEAVES, st.data())
def test_tampered_path_proves_nothing(leaves: list[bytes], data: st.DataObject) -> None:
    assume(len(leaves) > 1)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = path_of(leaves, index)
    at = data.draw(st.integers(0, len(path) - 1))
    wrong = bytes([path[at][0] ^ data.draw(st.integers(1, 255))]) + path[at][1:]
    root, leaf, size = root_of(leaves), leaves[index], len(leaves)

    assert root_along(leaf, index, size, [*path[:at], wrong, *path[at + 1 :]]) != root
    assert root_along(leaf, index, size, path[:-1]) != root
    assert root_along(leaf, index, size, [*path, path[-1]]) != root


@given(LEAVES, st.data())
def test_leaf_is_proved_at_its_own_place_only(leaves: list[bytes], data: st.DataObject) -> None:
    assume(len(set(leaves)) == len(leaves) > 1)
    index = data.draw(st.integers(0, len(leaves) - 1))
    elsewhere = data.draw(st.integers(-1, len(leaves)).filter(lambda n: n != index))

    path = path_of(leaves, index)

    assert root_along(leaves[index], elsewhere, len(leaves), path) != root_of(leaves)


@given(LEAVES)
def test_root_is_of_all_leaves_in_their_order(leaves: list[bytes]) -> None:
    assert root_of(leaves) != root_of([*leaves, b""])
    assert root_of(leaves) != root_of(leaves[:-1])
    if leaves != leaves[::-1]:
        assert root_of(leaves) != root_of(leaves[::-1])


def test_tree_has_the_shape_of_rfc_6962() -> None:
    # Section 2.1.3: seven leaves split at four, then two and one.
    d = [bytes([n]) for n in range(7)]
    a, b, c, e, f, g, j = (leaf_hash(leaf) for leaf in d)
    k, h = node_hash(node_hash(a, b), node_hash(c, e)), node_hash(f, g)

    assert root_of(d) == node_hash(k, node_hash(h, j))
    assert path_of(d, 6) == [h, k]
    assert (root_of([]), EMPTY) == (sha256(b"").digest(), root_of([]))
