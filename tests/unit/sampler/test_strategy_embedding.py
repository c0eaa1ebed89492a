"""Strategies that compare what windows look like, against scikit-learn, scikit-activeml and brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from biosegment_sampler.strategies import STRATEGIES
from biosegment_sampler.strategies.clustering import closest, in_turns, k_means, spread
from biosegment_sampler.strategies.coreset import farthest_first
from biosegment_sampler.strategies.typiclust import typicality
from scipy import stats
from scipy.spatial.distance import cdist
from skactiveml.pool import CoreSet, TypiClust
from sklearn.cluster import KMeans

from tests.unit.sampler.pool import candidates_of, order_of

COMPARING = ("badge", "coreset", "entropy_kmeans", "kmeans", "typiclust")


def blobs(sizes: list[int], seed: int = 0, size: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Points in far apart groups, in random order, and their groups."""
    rng = np.random.default_rng(seed)
    middles = 40 * rng.normal(size=(len(sizes), size))
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (middles[groups] + rng.normal(size=(len(groups), size))).astype(np.float32), groups


def scores_of(count: int, seed: int = 7) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).uniform(0.1, 1, count)
    return {name: values for name in ("entropy", "gradient_embedding", "class_probability")}


def middles(points: np.ndarray, groups: np.ndarray, weights: np.ndarray | None = None) -> list[int]:
    """The point nearest to the weighted mean of each group, by scikit-learn."""
    found = []
    for group in range(groups.max() + 1):
        (members,) = np.nonzero(groups == group)
        weight = None if weights is None else weights[members]
        fitted = KMeans(1, n_init=1, random_state=0).fit(points[members], sample_weight=weight)
        found.append(int(members[cdist(fitted.cluster_centers_, points[members]).argmin()]))
    return found


@pytest.mark.parametrize("count", [3, 20])
def test_k_means_is_as_good_as_scikit_learns(count: int) -> None:
    points = np.random.default_rng(2).normal(size=(800, 6)).astype(np.float32) + 50
    ours = [k_means(points, count, np.random.default_rng(seed)).distances.sum() for seed in range(5)]
    theirs = [KMeans(count, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(5)]
    assert np.mean(ours) <= 1.03 * np.mean(theirs)
    clusters = k_means(points, count, np.random.default_rng(0))
    again = KMeans(count, init=clusters.centres, n_init=1).fit(points)
    assert np.mean(again.labels_ == clusters.labels) > 0.98


def test_k_means_of_few_different_points_has_no_empty_cluster() -> None:
    points = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    clusters = k_means(points, 20, np.random.default_rng(0))
    assert len(clusters.centres) == len(set(clusters.labels.tolist())) == 3
    assert np.allclose(clusters.distances, 0, atol=1e-6)


def test_the_closest_centre_is_that_of_scipy_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biosegment_sampler.strategies.clustering._CHUNK", 50)
    rng = np.random.default_rng(3)
    points, centres = rng.normal(size=(101, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    labels, distances = closest(points, centres)
    expected = cdist(points, centres, "sqeuclidean")
    assert labels.tolist() == expected.argmin(1).tolist()
    assert distances == pytest.approx(expected.min(1), abs=1e-4)
    assert np.isinf(closest(points, centres[:0])[1]).all()


def test_turns_serve_each_cluster_before_one_is_served_twice() -> None:
    points, groups = blobs([5, 2, 9])
    clusters = k_means(points, 3, np.random.default_rng(1))
    order = in_turns(clusters, -clusters.distances, np.argsort(-np.bincount(clusters.labels)))
    assert [groups[number] for number in order] == [2, 0, 1, 2, 0, 1, 2, 0, 2, 0, 2, 0, 2, 2, 2, 2]
    of_largest = [number for number in order if groups[number] == 2]
    assert clusters.distances[of_largest].tolist() == sorted(clusters.distances[of_largest])


def test_kmeans_begins_with_the_middle_of_each_cluster_the_largest_first() -> None:
    points, groups = blobs([30, 50, 20, 40])
    order = order_of("kmeans", candidates_of(scores_of(140), points, batch=4))
    nearest = middles(points, groups)
    assert order[:4] == [nearest[group] for group in (1, 3, 0, 2)]
    assert sorted(order) == list(range(140))


def test_entropy_kmeans_takes_middles_of_the_uncertain_weighted_by_entropy() -> None:
    points, groups = blobs([300, 300, 300], seed=4)
    scores = scores_of(900)
    # The tenth that is most uncertain lies in two of the three groups.
    scores["entropy"] = np.where(groups == 2, 0.05, scores["entropy"] ** 4)
    uncertain = np.argsort(-scores["entropy"])[:90]
    candidates = candidates_of(scores, points, batch=2)
    order = order_of("entropy_kmeans", candidates)
    assert sorted(order) == sorted(uncertain.tolist())
    weights = scores["entropy"][uncertain]
    nearest = [int(uncertain[place]) for place in middles(points[uncertain], groups[uncertain], weights)]
    assert order[:2] == sorted(nearest, key=lambda number: -scores["entropy"][number])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.filterwarnings("ignore")
def test_coreset_is_the_k_centre_of_scikit_activeml_relative_to_what_is_labelled(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(120, 4)).astype(np.float32)
    labelled = np.array([5, 17, 90])
    order = order_of("coreset", candidates_of(scores_of(120), points, labelled=labelled))
    y = np.full(120, np.nan)
    y[labelled] = 0
    theirs = CoreSet(random_state=0).query(points.astype(np.float64), y, batch_size=30)
    assert order[:30] == theirs.tolist()
    assert set(order[-3:]) == set(labelled.tolist())


def test_coreset_picks_the_farthest_by_brute_force_and_then_goes_by_distance() -> None:
    points = np.random.default_rng(8).normal(size=(60, 3)).astype(np.float32)
    places = farthest_first(points, points[:0], 10).tolist()
    assert sorted(places) == list(range(60))
    for count in range(1, 10):
        distances = cdist(points, points[places[:count]]).min(1)
        assert places[count] == distances.argmax()
    rest = cdist(points, points[places[:10]]).min(1)[places[10:]]
    assert rest.tolist() == sorted(rest, reverse=True)


@pytest.mark.filterwarnings("ignore")
def test_typiclust_takes_what_scikit_activeml_takes() -> None:
    points, groups = blobs([60, 50, 40, 30, 20], seed=6)
    labelled = np.array([int(np.flatnonzero(groups == 1)[0]), int(np.flatnonzero(groups == 3)[0])])
    order = order_of("typiclust", candidates_of(scores_of(200), points, labelled=labelled, batch=3))
    y = np.full(200, np.nan)
    y[labelled] = 0
    theirs = TypiClust(random_state=0, k=20).query(points.astype(np.float64), y, batch_size=3)
    assert order[:3] == theirs.tolist()
    # Then those of the clusters that have a label, the larger one first.
    assert [groups[number] for number in order[:5]] == [0, 2, 4, 1, 3]
    assert not set(order) & set(labelled.tolist())


def test_typicality_is_one_over_the_mean_distance_to_the_nearest_of_the_cluster() -> None:
    points, groups = blobs([30, 12, 1], seed=9)
    found = typicality(points, groups, np.random.default_rng(0))
    for number in range(len(points)):
        (members,) = np.nonzero(groups == groups[number])
        distances = sorted(float(np.linalg.norm(points[number] - points[other])) for other in members)[1:21]
        expected = 1 / np.mean(distances) if distances else 0
        assert found[number] == pytest.approx(expected, rel=1e-3)


def test_k_means_plus_plus_draws_by_the_squared_distance() -> None:
    points = np.array([[0, 0], [1, 0], [0, 2], [3, 0]], np.float32)
    seconds = np.zeros(4)
    for seed in range(2800):
        places, _ = spread(points, 2, np.random.default_rng(seed), first=0)
        assert places[0] == 0
        seconds[places[1]] += 1
    assert seconds[0] == 0
    assert stats.chisquare(seconds[1:], [200, 800, 1800]).pvalue > 0.001


def test_badge_begins_with_the_longest_gradient_and_draws_the_others_by_squared_distance() -> None:
    # Four directions that are orthogonal once the mean is off: every distance is a sum of two squared norms.
    embeddings = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32) + 5
    norms = np.array([0.1, 0.4, 0.2, 0.3])
    squared = cdist(norms[:, None] * (embeddings - 5), norms[1] * (embeddings[1:2] - 5), "sqeuclidean")[:, 0]
    seconds = np.zeros(4)
    for seed in range(2000):
        order = order_of("badge", candidates_of({"gradient_embedding": norms}, embeddings, seed=seed))
        assert order[0] == 1
        assert sorted(order) == [0, 1, 2, 3]
        seconds[order[1]] += 1
    expected = squared / squared.sum() * 2000
    assert stats.chisquare(seconds[[0, 2, 3]], expected[[0, 2, 3]]).pvalue > 0.001


@pytest.mark.parametrize("name", COMPARING)
def test_every_comparing_strategy_leaves_out_what_has_no_embedding_and_repeats_by_seed(name: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(300, 8)).astype(np.float32)
    points[::3] = np.nan
    points[1, 4] = np.inf
    scores = scores_of(300)
    scores["entropy"][5] = np.nan
    scores["gradient_embedding"] = scores["entropy"]
    orders = [
        order_of(name, candidates_of(scores, points, batch=10, seed=seed, labelled=np.array([3, 4])))
        for seed in (1, 1, 2)
    ]
    # Nothing about core-set is random while all fit on the shortlist.
    assert orders[0] == orders[1]
    assert (orders[0] == orders[2]) == (name == "coreset")
    assert len(orders[0]) == len(set(orders[0])) > 10
    assert all(number % 3 and number != 1 for number in orders[0])


@pytest.mark.parametrize("name", COMPARING)
def test_without_any_embedding_nothing_is_ranked(name: str) -> None:
    assert order_of(name, candidates_of(scores_of(20), np.full((20, 8), np.nan))) == []


@pytest.mark.parametrize("name", COMPARING)
def test_windows_that_all_look_the_same_are_ranked_too(name: str) -> None:
    order = order_of(name, candidates_of(scores_of(40), np.ones((40, 8)), batch=5))
    assert len(order) == len(set(order)) > 0


def test_the_largest_shortlist_is_fifty_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    candidates = candidates_of(scores_of(500), np.random.default_rng(0).normal(size=(500, 4)))

    def embed(numbers: np.ndarray) -> np.ndarray:
        asked.append(len(numbers))
        return candidates.embed(numbers)

    for name in COMPARING:
        module = STRATEGIES[name].rank.__module__
        monkeypatch.setattr(f"{module}.LIMIT", 30)
        STRATEGIES[name].rank(replace(candidates, embed=embed))
    assert max(asked) == 30
