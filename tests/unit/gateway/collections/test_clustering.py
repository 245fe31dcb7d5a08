"""Grouping embeddings: which faces are joined, and that names are kept."""

import numpy as np
import pytest

from gateway.collections import clustering
from gateway.collections.cluster_runs import name_groups
from gateway.collections.clustering import cluster
from gateway.vectors.base import Vector

COLLECTION = "00000000-0000-0000-0000-00000000000c"


def at_degrees(*angles: float) -> Vector:
    radians = np.deg2rad(np.array(angles))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def partition(labels: np.ndarray) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(index)
    return sorted(groups.values())


def people(number: int, faces: int, dimension: int = 128) -> tuple[Vector, np.ndarray]:
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((number, dimension))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    who = np.repeat(np.arange(number), faces)
    noise = rng.standard_normal((len(who), dimension)) * (0.6 / np.sqrt(dimension))
    vectors = centres[who] + noise
    order = rng.permutation(len(who))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[order], who[order]


def test_people_are_separated():
    vectors, who = people(200, 7)
    assert partition(cluster(vectors, threshold=0.45)) == partition(who)


def test_a_chain_is_not_one_person():
    # each is within 30 degrees of the next, the ends are 120 apart
    labels = cluster(at_degrees(0, 5, 30, 60, 90, 115, 120), threshold=np.cos(np.deg2rad(31)))
    assert labels[0] == labels[1]
    assert labels[5] == labels[6]
    assert labels[0] != labels[6]


def test_none_one_and_two_faces():
    assert len(cluster(np.zeros((0, 8), np.float32), threshold=0.5)) == 0
    assert partition(cluster(at_degrees(0), threshold=0.5)) == [[0]]
    assert partition(cluster(at_degrees(0, 10), threshold=0.5)) == [[0, 1]]
    assert partition(cluster(at_degrees(0, 90), threshold=0.5)) == [[0], [1]]


def test_a_large_component_is_split(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clustering, "MAX_LINKAGE", 20)
    vectors, who = people(30, 9)
    # joined by a face halfway between every two people
    centres = np.stack([vectors[who == k].mean(axis=0) for k in range(30)])
    bridges = centres[:-1] + centres[1:]
    bridges /= np.linalg.norm(bridges, axis=1, keepdims=True)
    labels = cluster(np.vstack([vectors, bridges]).astype(np.float32), threshold=0.45)
    assert partition(labels[: len(who)]) == partition(who)


def test_many_equal_faces_are_one_group():
    vectors = np.repeat(at_degrees(0, 90), 50, axis=0)
    assert [len(group) for group in partition(cluster(vectors, threshold=0.9))] == [50, 50]


def test_names_follow_the_larger_part():
    labels = np.array([0, 0, 0, 1, 1])
    first = name_groups(list("abcde"), labels, {}, collection_id=COLLECTION)
    # d leaves its group for that of a, b, c; f is new and alone
    again = name_groups(
        list("abcdef"), np.array([5, 5, 5, 5, 2, 9]), first, collection_id=COLLECTION
    )
    assert again["a"] == first["a"] == again["d"]
    assert again["e"] == first["e"]
    assert again["f"] not in first.values()
    # after a split the larger part keeps the name
    split = name_groups(
        list("abcdef"), np.array([1, 2, 2, 2, 3, 4]), again, collection_id=COLLECTION
    )
    assert split["b"] == split["c"] == again["a"]
    assert split["a"] not in again.values()
    assert len(set(split.values())) == 4


def test_names_do_not_depend_on_the_order():
    one = name_groups(list("abcd"), np.array([0, 0, 1, 1]), {}, collection_id=COLLECTION)
    other = name_groups(list("dcba"), np.array([3, 3, 8, 8]), {}, collection_id=COLLECTION)
    assert one == other
