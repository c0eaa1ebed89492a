"""Networks with weights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict

from biosegment.api.trainer.v1alpha1 import trainer_pb2
from biosegment.client.resources.wire import time_of


@dataclass(frozen=True, slots=True)
class Model:
    """A network with weights: one immutable version."""

    name: str
    project: str
    display_name: str
    version: int
    parent: str
    network: str
    class_values: tuple[int, ...]
    working_resolution_nm: float
    annotations: tuple[str, ...]
    annotation_count: int
    config: dict[str, Any]
    metrics: dict[str, float]
    job: str
    author: str
    create_time: datetime | None
    weights_sha256: str
    remarks: tuple[str, ...]
    data_license: str
    class_names: tuple[str, ...]
    shared: bool
    deleted: bool

    @classmethod
    def from_proto(cls, message: trainer_pb2.Model) -> Model:
        return cls(
            message.name,
            message.project,
            message.display_name,
            message.version,
            message.parent,
            message.network,
            tuple(message.class_values),
            message.working_resolution_nm,
            tuple(message.annotations),
            message.annotation_count,
            MessageToDict(message.config),
            dict(message.metrics),
            message.job,
            message.author,
            time_of(message.create_time),
            message.weights_sha256,
            tuple(message.remarks),
            message.data_license,
            tuple(message.class_names),
            message.shared,
            message.deleted,
        )
