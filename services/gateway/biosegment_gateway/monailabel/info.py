"""What `/info/` says: how the plugins see a project."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import biosegment
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment_gateway.monailabel.dataset import Listing
from biosegment_gateway.monailabel.project import Project
from biosegment_gateway.monailabel.task import SEGMENTATION, STEPS_PER_EPOCH

CLICKS, CLICKS_2D, SCRIBBLES = "clicks", "clicks_2d", "scribbles"
SCORES: Final = {
    "entropy": "Entropy of the newest model's probabilities",
    "least_confidence": "One minus the probability of the likeliest class",
    "margin": "How near the two likeliest classes are",
}
"""Measures that need one pass of a model."""
_METRICS: Final = ("validation_iou", "iou", "validation_dice")


def info_document(listing: Listing) -> dict[str, Any]:
    """The whole document; no top-level `config`, for the plugin refuses servers that send one."""
    project = listing.dataset.project
    labels = project.classes.as_labels()
    return {
        "name": project.display_name or project.project_id,
        "description": project.description,
        "version": biosegment.__version__,
        "labels": labels,
        # The first whose labels hold one of these is what the plugin runs on a new sample.
        "models": _models(labels),
        "trainers": {
            SEGMENTATION: {
                "description": "Fine-tunes the project's newest model on its annotations",
                "labels": labels,
                "config": {"max_epochs": 50, "from_scratch": False, "seed": 0},
            }
        },
        "strategies": {name: {"description": text} for name, text in project.strategies.items()},
        "scoring": {name: {"description": text} for name, text in SCORES.items()},
        "train_stats": _train_stats(project),
        "datastore": listing.status(),
    }


def _models(labels: dict[str, int]) -> dict[str, Any]:
    return {
        SEGMENTATION: {
            "type": "segmentation",
            "labels": labels,
            "dimension": 3,
            "description": "Labels the image by the project's newest model, or the shipped one",
            "config": {"device": ["auto"]},
        },
        CLICKS: {
            "type": "deepedit",
            "labels": labels,
            "dimension": 3,
            "description": "Corrects objects where you click, and follows them through the slices",
            "config": {"device": ["auto"], "start": ["segmentation", "nothing"]},
        },
        CLICKS_2D: {
            "type": "deepgrow",
            "labels": labels,
            "dimension": 2,
            "description": "Segments an object in the slice that you click in",
            "config": {"device": ["auto"]},
        },
        SCRIBBLES: {
            "type": "scribbles",
            "labels": labels,
            "dimension": 3,
            "description": "Learns from your strokes alone",
            "config": {"device": ["auto"], "network_features": False, "all_slices": True},
        },
    }


def _train_stats(project: Project) -> dict[str, Any]:
    trainings = project.jobs_of("train")
    if not trainings:
        return {SEGMENTATION: {}}
    return {SEGMENTATION: train_stats(trainings[0], project)}


def train_stats(job: job_pb2.Job, project: Project) -> dict[str, Any]:
    """How far a training is; every number is one, for the plugin computes with them."""
    progress, model = job.progress, project.model
    metrics = dict(job.metrics)
    if model is not None and model.job == job.name:
        metrics |= dict(model.metrics)
    epochs = max(1, -(-progress.total // STEPS_PER_EPOCH)) if progress.total else 1
    start = (job.start_time if job.HasField("start_time") else job.create_time).ToDatetime(UTC)
    best = next((metrics[name] for name in _METRICS if name in metrics), 0.0)
    found: dict[str, Any] = {
        "epoch": min(epochs, int(progress.fraction * epochs)),
        "total_epochs": epochs,
        "start_ts": int(start.timestamp()),
        "best_metric": float(best) if best == best else 0.0,
        "train": {"metrics": {name: value for name, value in metrics.items() if value == value}},
        "eval": {},
    }
    if job.HasField("end_time"):
        found["total_time"] = _duration(job.end_time.ToDatetime(UTC) - start)
    else:
        found["current_time"] = _duration(datetime.now(UTC) - start)
    return found


def _duration(length: timedelta) -> str:
    return str(timedelta(seconds=max(0, int(length.total_seconds()))))
