from __future__ import annotations

import pytest
from biosegment_trainer.compute.capacity import Capacity
from biosegment_trainer.compute.machine import machine
from biosegment_trainer.compute.ray_connection import RaySettings
from biosegment_trainer.compute.ray_executor import RayExecutor

from biosegment.errors import FailedPrecondition, Unavailable
from biosegment.jobs import Resources
from biosegment.jobs.queue import Lane

GIB = 1 << 30


def capacity(*nodes: Resources, cpus: int = 0, **options: object) -> Capacity:
    async def ask() -> list[Resources]:
        return list(nodes)

    return Capacity(ask, Resources(cpus), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "cpus", "asked", "reserved"),
    [
        # On this machine: all CPUs, and the GPU when there is one.
        ([Resources(8, 0, 16 * GIB)], 8, Resources(), Resources(8, 0, 0)),
        ([Resources(8, 1, 16 * GIB)], 8, Resources(), Resources(8, 1, 0)),
        ([Resources(2, 0, 16 * GIB)], 8, Resources(), Resources(2, 0, 0)),
        ([Resources(8, 1, 16 * GIB)], 8, Resources(3, 0, GIB), Resources(3, 1, GIB)),
        # On a cluster a training and a prediction have room beside each other, for each GPU.
        ([Resources(8, 0, 16 * GIB)], 0, Resources(), Resources(4, 0, 0)),
        ([Resources(16, 4, 64 * GIB), Resources(64, 0, 64 * GIB)], 0, Resources(), Resources(2, 1, 0)),
        ([Resources(16, 4, 64 * GIB)], 0, Resources(gpus=2), Resources(2, 2, 0)),
        # The head of a cluster may take no work at all.
        ([Resources(4, 0, GIB), Resources(0, 0, GIB)], 0, Resources(), Resources(2, 0, 0)),
    ],
)
async def test_what_a_job_does_not_ask_for_is_filled_in(nodes, cpus, asked, reserved):
    assert await capacity(*nodes, cpus=cpus).reserve(asked) == reserved


@pytest.mark.parametrize(
    "asked", [Resources(9), Resources(gpus=2), Resources(memory_bytes=17 * GIB), Resources(1, 1, GIB)]
)
async def test_more_than_any_node_has_is_refused_with_what_the_largest_has(asked):
    nodes = [Resources(8, 1, GIB - 1), Resources(8, 0, 16 * GIB)]
    with pytest.raises(FailedPrecondition) as caught:
        await capacity(*nodes).reserve(asked)
    assert caught.value.reason == "NO_NODE_LARGE_ENOUGH"
    assert "8 CPUs, 1 GPUs" in caught.value.message


async def test_a_cluster_that_grows_may_have_larger_nodes_than_it_shows():
    growing = capacity(Resources(2, 0, GIB), largest=Resources(16, 2, 64 * GIB))
    assert (await growing.reserve(Resources(16, 2))).gpus == 2
    with pytest.raises(FailedPrecondition):
        await growing.reserve(Resources(17))


async def test_a_cluster_that_is_away_refuses_nothing():
    async def ask() -> list[Resources]:
        raise Unavailable("RAY_UNAVAILABLE", "away")

    assert await Capacity(ask, Resources()).reserve(Resources(64, 8)) == Resources(64, 8)


async def test_there_are_as_many_trainings_as_gpus():
    lane = Lane("training", frozenset({"train"}), 1)
    await capacity(Resources(8, 2, GIB), Resources(8, 1, GIB), trainings=lane).reserve(Resources())
    assert lane.concurrent == 3
    await capacity(Resources(8, 0, GIB), trainings=lane).reserve(Resources())
    assert lane.concurrent == 1


async def test_this_machine_is_known_without_starting_ray(tmp_path):
    executor = RayExecutor(RaySettings(temp_dir=str(tmp_path)))
    (node,) = await executor.nodes()
    assert node == machine()
    assert node.cpus >= 1
    assert node.memory_bytes > GIB // 2
    await executor.close()
