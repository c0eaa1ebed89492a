from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from biosegment_trainer.compute import capacity as module
from biosegment_trainer.compute.capacity import Capacity
from biosegment_trainer.compute.cluster import STARTER_SHARE, TRAINING_SHARE, Room, prediction_share
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
        # On this machine: all CPUs, or those of one GPU where there are any.
        ([Resources(8, 0, 16 * GIB)], 0, Resources(), Resources(8, 0, 0)),
        ([Resources(8, 1, 16 * GIB)], 0, Resources(), Resources(8, 1, 0)),
        ([Resources(8, 4, 16 * GIB)], 0, Resources(), Resources(2, 1, 0)),
        ([Resources(8, 4, 16 * GIB)], 0, Resources(gpus=3), Resources(6, 3, 0)),
        ([Resources(2, 4, 16 * GIB)], 0, Resources(), Resources(1, 1, 0)),
        ([Resources(2, 4, 16 * GIB)], 0, Resources(gpus=3), Resources(2, 3, 0)),
        ([Resources(8, 4, 16 * GIB)], 3, Resources(), Resources(3, 1, 0)),
        ([Resources(2, 0, 16 * GIB)], 8, Resources(), Resources(2, 0, 0)),
        ([Resources(8, 1, 16 * GIB)], 8, Resources(3, 0, GIB), Resources(3, 1, GIB)),
    ],
)
async def test_what_a_job_does_not_ask_for_is_filled_in(nodes, cpus, asked, reserved):
    assert await capacity(*nodes, cpus=cpus).reserve(asked) == reserved


async def test_what_has_no_use_for_a_gpu_takes_none():
    found = capacity(Resources(8, 2, 64 * GIB))
    for asked in (Resources(), Resources(gpus=1)):
        assert await found.reserve(asked, on_gpu=False) == Resources(4, 0, 0)
        assert await found.fill(asked, on_gpu=False) == Resources(4, 0, 0)


@pytest.mark.parametrize(
    ("nodes", "shares", "asked", "reserved"),
    [
        # A training and a prediction have room beside each other, for each GPU.
        ([Resources(8, 0, 16 * GIB)], 2, Resources(), Resources(4, 0, 0)),
        ([Resources(16, 4, 64 * GIB), Resources(64, 0, 64 * GIB)], 2, Resources(), Resources(2, 1, 0)),
        ([Resources(16, 4, 64 * GIB)], 2, Resources(gpus=2), Resources(4, 2, 0)),
        # And a second prediction.
        ([Resources(12, 2, 64 * GIB)], 3, Resources(), Resources(2, 1, 0)),
        # The head of a cluster may take no work at all.
        ([Resources(4, 0, GIB), Resources(0, 0, GIB)], 2, Resources(), Resources(2, 0, 0)),
        # What no node with a GPU has is no reason to ask for one.
        ([Resources(4, 1, GIB), Resources(64, 0, GIB)], 2, Resources(32), Resources(32, 0, 0)),
    ],
)
async def test_jobs_share_the_cpus_of_a_cluster(nodes, shares, asked, reserved):
    assert await capacity(*nodes, shares=shares).reserve(asked) == reserved


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


class Growing:
    """A cluster whose nodes come and go."""

    def __init__(self, *nodes: Resources) -> None:
        self.nodes = list(nodes)
        self.is_away = False

    async def ask(self) -> list[Resources]:
        await asyncio.sleep(0.01)
        if self.is_away:
            raise Unavailable("RAY_UNAVAILABLE", "away")
        return self.nodes


async def test_what_is_not_known_when_a_job_is_created_is_filled_in_when_it_begins(monkeypatch):
    monkeypatch.setattr(module, "_UNKNOWN_FOR_S", 0.0)
    # A head that takes no work, and no worker yet.
    cluster = Growing(Resources(0, 0, GIB))
    found = Capacity(cluster.ask, Resources())
    assert await found.reserve(Resources()) == Resources()
    assert await found.reserve(Resources(64, 8)) == Resources(64, 8)
    assert await found.fill(Resources()) is None
    cluster.is_away = True
    assert await found.fill(Resources()) is None
    cluster.is_away, cluster.nodes = False, [Resources(8, 1, GIB)]
    assert await found.fill(Resources()) == Resources(8, 1)


async def test_a_second_job_waits_until_the_nodes_are_known():
    found = Capacity(Growing(Resources(8, 1, GIB)).ask, Resources())
    assert await asyncio.gather(*(found.reserve(Resources()) for _ in range(2))) == [Resources(8, 1)] * 2


async def test_a_job_that_was_let_in_waits_for_a_node_that_is_away(monkeypatch):
    monkeypatch.setattr(module, "_KNOWN_FOR_S", 0.0)
    cluster = Growing(Resources(4, 1, GIB), Resources(2, 0, GIB))
    found = Capacity(cluster.ask, Resources())
    asked = await found.reserve(Resources())
    assert asked == Resources(4, 1)
    cluster.nodes = [Resources(2, 0, GIB)]
    assert await found.fill(asked) == asked
    # Also one whose row has none yet, and new ones: the node may just be restarted.
    assert await found.fill(Resources()) == await found.reserve(Resources()) == asked
    # After a while it is forgotten.
    monkeypatch.setattr(module, "_REMEMBERED_FOR_S", 0.0)
    assert await found.reserve(Resources()) == Resources(2, 0)
    with pytest.raises(FailedPrecondition):
        await found.reserve(asked)
    # Nobody is refused whom it was promised.
    assert await found.fill(asked) == asked


async def test_there_are_as_many_trainings_as_gpus():
    lane = Lane("training", frozenset({"train"}), 1)
    await capacity(Resources(8, 2, GIB), Resources(8, 1, GIB), trainings=lane).reserve(Resources())
    assert lane.concurrent == 3
    await capacity(Resources(8, 0, GIB), trainings=lane).reserve(Resources())
    assert lane.concurrent == 1
    # More would wait for CPUs while it counts as running.
    await capacity(Resources(8, 4, GIB), cpus=4, trainings=lane).reserve(Resources())
    assert lane.concurrent == 2


@pytest.mark.parametrize(
    ("room", "machine", "cpus"),
    [
        (Room(), Resources(2, 0), 4),
        (Room(), Resources(8, 4), 16),
        (Room(predictions=2), Resources(2, 0), 6),
        (Room(trainings=2), Resources(2, 0), 6),
        (Room(trainings=4), Resources(8, 4), 16),
    ],
)
def test_all_that_run_at_once_on_this_machine_have_room(room, machine, cpus):
    assert room.head_cpus(machine) == cpus
    job = Resources(machine.cpus // max(1, machine.gpus), min(1, machine.gpus))
    trainings = room.trainings or max(1, machine.gpus)
    workers = room.workers(job, [machine]) * room.predictions
    assert job.cpus * (trainings + workers) <= cpus


@pytest.mark.parametrize(
    ("room", "node", "job", "most", "cpus"),
    [
        # A worker for each CPU, as far as there are blocks, workers that an operator allows, and memory.
        (Room(), Resources(2, 0, 24 * GIB), Resources(2), 16, 1),
        (Room(), Resources(16, 0, 64 * GIB), Resources(16), 3, 8),
        (Room(), Resources(16, 0, 64 * GIB), Resources(16), 1, 16),
        (Room(), Resources(8, 0, 16 * GIB), Resources(8), 99, 2),
        (Room(predictions=2), Resources(8, 0, 16 * GIB), Resources(8), 99, 4),
        (Room(), Resources(4, 0, GIB), Resources(4), 99, 4),
        (Room(), Resources(3, 0, 10 * GIB), Resources(3), 99, 3),
        # Of memory that is reserved, a training needs as much as a worker.
        (Room(), Resources(16, 0, 32 * GIB), Resources(16, 0, 8 * GIB), 99, 8),
        (Room(), Resources(16, 0, 32 * GIB), Resources(16, 0, 16 * GIB), 99, 16),
        # A GPU's own CPUs, and those of a cluster, of which a training needs as many.
        (Room(), Resources(8, 1, 64 * GIB), Resources(8, 1), 99, 8),
        (Room(is_local=False), Resources(8, 0, 64 * GIB), Resources(4), 99, 4),
    ],
)
def test_workers_that_share_a_machine_have_few_cpus_each(room, node, job, most, cpus):
    worker = room.worker(job, most, [node])
    assert worker == replace(job, cpus=cpus)
    if room.is_local and not job.gpus:
        # None of the CPUs is left over but what one worker more would need.
        workers = min(room.workers(worker, [node]), most)
        assert workers * cpus > job.cpus - cpus


def test_workers_leave_room_for_a_training():
    small, node = Resources(1, 0, GIB), Resources(8, 0, 4 * GIB)
    assert Room().workers(replace(small, memory_bytes=0), [node]) == 8
    assert Room().workers(small, [node]) == 3
    assert Room(trainings=2).workers(small, [node]) == 2
    assert Room(predictions=3).workers(small, [node]) == 1
    assert Room().workers(Resources(8, 0, 4 * GIB), [node]) == 1
    with_gpus = Resources(8, 2, 4 * GIB)
    assert Room().workers(Resources(1, 1, GIB), [with_gpus]) == 2
    assert Room(predictions=2).workers(Resources(1, 1, GIB), [with_gpus]) == 1
    cluster = Room(is_local=False)
    assert cluster.workers(Resources(4), [Resources(8), Resources(8)]) == 3
    assert replace(cluster, predictions=2).workers(Resources(2), [Resources(6), Resources(6)]) == 2
    assert cluster.workers(Resources(2, 1), [Resources(16, 4)]) == 4


@pytest.mark.parametrize("predictions", [1, 2, 3, 64])
def test_a_gpu_holds_one_training_and_a_worker_of_each_prediction(predictions):
    workers = predictions * prediction_share(predictions)
    assert 0 < workers <= 0.4
    assert 2 * TRAINING_SHARE > 1
    # Also one of several processes of a training, and some tasks that start such processes.
    assert TRAINING_SHARE + workers + 4 * STARTER_SHARE < 1


async def test_this_machine_is_known_without_starting_ray(tmp_path):
    executor = RayExecutor(RaySettings(temp_dir=str(tmp_path)))
    (node,) = await executor.nodes()
    assert node == machine()
    assert node.cpus >= 1
    assert node.memory_bytes > GIB // 2
    await executor.close()
