"""A start without any foreground: the first model finds nothing, and the loop gets out of it all the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from biosegment.client.resources import Sample
from biosegment.volume import FIRST_CLASS, Region
from tests.system.platform import running
from tests.system.tissue import Bench, Tissue, set_up, write_tissue

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SHAPE = (16, 128, 128)
SAMPLE_SHAPE = (1, 32, 32)
STEPS = 100


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("cold-start")
    tissue = write_tissue(folder / "in")
    with running(folder, import_root=folder / "in") as platform, platform.connect() as client:
        yield set_up(client, tissue, "em", SAMPLE_SHAPE)


def _regions(tissue: Tissue, with_foreground: bool, count: int) -> list[Region]:
    """Windows that are all background, or that show much of a mitochondrion."""
    found = []
    for z in range(0, SHAPE[0], 2):
        for y in range(0, SHAPE[1] - 31, 32):
            for x in range(0, SHAPE[2] - 31, 32):
                region = Region.of_shape(SAMPLE_SHAPE, (z, y, x))
                share = tissue.truth[region.slices].mean()
                if (share > 0.25) if with_foreground else (share == 0):
                    found.append(region)
    picked = np.linspace(0, len(found) - 1, count).astype(int)
    return [found[number] for number in picked]


def _choose(bench: Bench, regions: list[Region]) -> list[Sample]:
    return [bench.client.samples.create(bench.project, bench.volume, region) for region in regions]


def test_the_loop_gets_out_of_a_start_without_foreground(bench: Bench) -> None:
    client, tissue = bench.client, bench.tissue
    cold = client.samples.claim(bench.project, 2)
    assert {sample.strategy for sample in cold.samples} == {"stratified"}
    assert "no model yet" in cold.notice
    for sample in cold.samples:
        client.samples.release(sample.name)

    for sample in _choose(bench, _regions(tissue, False, 8)):
        bench.annotate(sample)
    blind = bench.train(steps=STEPS).model
    bench.until_scored(blind)
    assert _found(bench, blind) == 0

    stuck = bench.claim(2, lambda claim: "no model yet" not in claim.notice)
    assert {sample.strategy for sample in stuck.samples} == {"stratified"}
    assert "finds no foreground" in stuck.notice
    assert "add regions of your own" in stuck.notice
    for sample in stuck.samples:
        client.samples.release(sample.name)

    chosen = _choose(bench, _regions(tissue, True, 6))
    assert {sample.strategy for sample in chosen} == {"chosen"}
    for sample in chosen:
        bench.annotate(sample)
    seeing = bench.train(steps=STEPS)
    bench.until_scored(seeing.model)
    assert client.models.get(seeing.model).parent == blind

    out = bench.claim(2, lambda claim: not claim.notice)
    assert {(sample.strategy, sample.model) for sample in out.samples} == {("entropy", seeing.model)}
    assert _found(bench, seeing.model) > 0.2


def _found(bench: Bench, model: str) -> float:
    """IoU of what a model predicts and the truth."""
    done = bench.client.jobs.wait(bench.client.jobs.predict(bench.volume, model=model).name)
    predicted = bench.client.volumes.read(done.layers[0]) == FIRST_CLASS
    truth = bench.tissue.truth
    return float(np.count_nonzero(predicted & truth) / np.count_nonzero(predicted | truth))
