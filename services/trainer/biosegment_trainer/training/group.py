"""A task that several processes share, on as many GPUs: Ray Train starts them and connects them.

One process does without: starting a group costs ten seconds and more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from biosegment.errors import FailedPrecondition, InvalidArgument
from biosegment_trainer.compute.cluster import TRAINING_SHARE
from biosegment_trainer.compute.report import Reporter
from biosegment_trainer.compute.task import Outcome, PretrainTask, TrainTask
from biosegment_trainer.compute.worker import work


class Mailbox:
    """An actor that keeps the leader's word, or another's until the leader speaks; Ray Train itself returns none that
    is not a checkpoint.
    """

    def __init__(self) -> None:
        self._outcome: Outcome | None = None

    def put(self, outcome: Outcome, leads: bool = True) -> None:
        """Keep it."""
        if leads or self._outcome is None:
            self._outcome = outcome

    def get(self) -> Outcome | None:
        """What was put."""
        return self._outcome


def work_together(task: TrainTask | PretrainTask) -> Outcome:
    """Start `task.workers` processes on this node and wait for them.

    Raises:
        Exception: Of Ray Train, when a process died without a word.
    """
    import ray

    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        # Returned, for an error with a reason is an answer.
        missing = FailedPrecondition(
            "RAY_TRAIN_MISSING",
            f"training on several GPUs needs the extra `multi-gpu` on the nodes: {error}; ask for one GPU",
        )
        return Outcome(error=missing)
    # What the job reserved is shared by its processes.
    task = replace(task, threads=max(1, task.threads // task.workers))
    here = ray.get_runtime_context().get_node_id()
    node = next(node for node in ray.nodes() if node["NodeID"] == here)
    refusal = _refusal(task, node["Resources"])
    if refusal is not None:
        return Outcome(error=refusal)
    with Reporter(task.callback) as reporter:
        reporter.log(f"starting {task.workers} processes")
    resources = {"CPU": float(task.threads), f"node:{node['NodeManagerAddress']}": 0.001}
    if task.gpus:
        # The task that starts the group holds a little of one, which places both on one node.
        resources["GPU"] = TRAINING_SHARE
    mailbox: Any = ray.remote(Mailbox).options(num_cpus=0).remote()
    with tempfile.TemporaryDirectory(prefix="group-") as folder:
        trainer = TorchTrainer(
            _share,
            train_loop_config={"task": task, "mailbox": mailbox},
            scaling_config=ScalingConfig(
                num_workers=task.workers, use_gpu=bool(task.gpus), resources_per_worker=resources
            ),
            torch_config=TorchConfig(backend="nccl" if task.gpus else "gloo"),
            # The job's own attempts are what repeats, with checkpoints that outlive the node.
            run_config=RunConfig(
                name="group", storage_path=folder, failure_config=FailureConfig(max_failures=0)
            ),
        )
        failure: Exception | None = None
        try:
            trainer.fit()
        except Exception as error:
            failure = error
        outcome: Outcome | None = ray.get(mailbox.get.remote())
    if outcome is None:
        assert failure is not None
        raise failure
    return outcome


def _refusal(task: TrainTask | PretrainTask, node: Mapping[str, float]) -> FailedPrecondition | None:
    """Why the processes can never run on a node: Ray Train would wait for ever."""
    have = (node.get("GPU", 0.0), "GPUs") if task.gpus else (node.get("CPU", 0.0) // task.threads, "CPUs")
    if have[0] >= task.workers:
        return None
    return FailedPrecondition(
        "NO_NODE_LARGE_ENOUGH",
        f"{task.workers} processes of {task.threads} threads need more {have[1]} than the node has; ask for fewer",
    )


def _share(config: dict[str, Any]) -> None:
    """What each process does."""
    import ray
    import torch
    from ray.train.torch import get_device

    from biosegment_trainer.learning.group import DistributedGroup

    task: TrainTask | PretrainTask = config["task"]
    device = get_device() if task.gpus else torch.device("cpu")
    group = DistributedGroup(device)
    if group.rank:
        outcome = work(task, Listener(task.callback), group)
        # What all of them meet at once, as a loss that is not finite, the leader may say too late: the first that ends
        # takes the others with it.
        if isinstance(outcome.error, FailedPrecondition | InvalidArgument):
            ray.get(config["mailbox"].put.remote(outcome, False))
    else:
        with Reporter(task.callback) as reporter:
            outcome = work(task, reporter, group)
        ray.get(config["mailbox"].put.remote(outcome))
    if outcome.error is not None or outcome.cancelled:
        # The others wait for this one, which will not come any more: end them.
        raise RuntimeError("this process has ended before the others") from outcome.error


class Listener(Reporter):
    """Says nothing and asks nobody: the leader does, and all follow its word."""

    def _send(self) -> None:
        pass
