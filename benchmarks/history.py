"""Pages of an annotation history of a million records, asked for over gRPC."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import grpc
from biosegment_datastore.annotations.cell import cell_of

from benchmarks.report import print_samples
from biosegment.api.datastore.v1alpha1 import annotation_pb2 as pb
from biosegment.api.datastore.v1alpha1.annotation_pb2_grpc import AnnotationServiceStub
from biosegment.rpc.geometry import region_to_proto
from biosegment.volume import Index, Region

CALLS = 25
_PART = 50_000
SAMPLES = 50_000
"""Each was annotated several times."""

# Where annotation number n lies: 128 x 128 pixels, spread over 64 x 2048 x 2048 voxels; `cell_of` in SQL.
_PLACES = """
WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last),
places AS (SELECT n, n * 7919 % 64 AS z, n * 104729 % 1920 AS y, n * 15485863 % 1920 AS x FROM numbers)
"""
_ANNOTATIONS = f"""
INSERT INTO annotations (project_id, id, volume_id, sequence, start_z, start_y, start_x, stop_z, stop_y, stop_x, kind,
    class_scope, author, create_time_us, sample, strategy, model, work_time_s, state, labels_sha256, review_comment,
    voxel_counts, comment, "key", cell)
{_PLACES}
SELECT 'bench', printf('a%025d', n), :volume, n, z, y, x, z + 1, y + 128, x + 128, 'dense', '[2]',
    'user' || (n % 32), 1700000000000000 + n * 1000000,
    'projects/bench/samples/s' || (n % :samples), 'entropy', 'models/m1', 12.5,
    CASE WHEN n % 10 THEN 'pending' ELSE 'accepted' END,
    printf('%064d', n), '', '{{"1": 12000, "2": 4384}}', '',
    printf('projects/bench/annotations/a%025d', n), (z << 38) + (y / 128 << 19) + x / 128
FROM places
"""
_RECORDS = """
INSERT INTO annotation_records (project_id, sequence, volume_id, annotation_id, action, accepted, comment, author,
    create_time_us)
SELECT project_id, sequence, volume_id, id, 'committed', 0, '', author, create_time_us FROM annotations
WHERE sequence BETWEEN :first AND :last
"""


def fill(database: Path, volume: str, records: int) -> None:
    """Write a history as long commits would leave it, by SQL; nobody else may use the database meanwhile."""
    _, project_id, _, volume_id = volume.split("/")
    values = {"volume": volume_id, "samples": SAMPLES}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA cache_size=-500000")
        for first in range(1, records + 1, _PART):
            part = {"first": first, "last": min(first + _PART - 1, records)}
            with connection:
                connection.execute(_ANNOTATIONS, values | part)
                connection.execute(_RECORDS, part)
        with connection:
            connection.execute(
                "UPDATE projects SET last_sequence = :n WHERE id = :id", {"n": records, "id": project_id}
            )
        query = "SELECT start_z, start_y, start_x, cell FROM annotations WHERE sequence = :n"
        z, y, x, cell = connection.execute(query, {"n": records // 3}).fetchone()
    region = Region(Index(z, y, x), Index(z + 1, y + 128, x + 128))
    assert cell == cell_of(region), "the SQL above no longer says what cell_of says"


async def measure_pages(channel: grpc.aio.Channel, volume: str, records: int) -> dict[str, float]:
    """Median milliseconds for each kind of page."""
    stub: Any = AnnotationServiceStub(channel)
    project = "/".join(volume.split("/")[:2])
    region = region_to_proto(Region(Index(30, 900, 900), Index(31, 1028, 1028)))
    late = records - records // 20
    everything = pb.ListAnnotationsRequest(parent=project)
    of_volume = pb.ListAnnotationsRequest(parent=volume)
    of_region = pb.ListAnnotationsRequest(parent=volume, region=region)
    of_sample = pb.ListAnnotationsRequest(parent=project, sample=f"{project}/samples/s17")
    accepted = pb.ListAnnotationsRequest(parent=volume, states=[pb.Annotation.STATE_ACCEPTED])
    lists = {
        "project": everything,
        "volume": of_volume,
        "volume, late page": await _late(stub, of_volume, late),
        "region": of_region,
        "region, late page": await _late(stub, of_region, late),
        "sample": of_sample,
        "accepted, late page": await _late(stub, accepted, late),
    }
    feed = pb.ListAnnotationRecordsRequest
    feeds = {
        "first records": feed(parent=project),
        "late records": feed(parent=project, after_sequence=late),
        "late records of a volume": feed(parent=project, after_sequence=late, volume=volume),
        "records of a region": feed(parent=project, volume=volume, region=region),
        "late records of a region": feed(parent=project, after_sequence=late, volume=volume, region=region),
    }
    found: dict[str, float] = {}
    for name, request in lists.items():
        found[f"list: {name}"] = await _median(f"list: {name}", stub.ListAnnotations, request)
    for name, request in feeds.items():
        found[f"history: {name}"] = await _median(f"history: {name}", stub.ListAnnotationRecords, request)
    return found


async def _late(stub: Any, request: Any, after: int) -> Any:
    """The same query with the token that a page which ended at `after` would have given."""
    small = type(request)()
    small.CopyFrom(request)
    small.page_size = 1
    token = (await stub.ListAnnotations(small)).next_page_token
    query, _ = json.loads(base64.urlsafe_b64decode(token))
    small.page_token = base64.urlsafe_b64encode(json.dumps([query, after]).encode()).decode()
    small.page_size = request.page_size
    return small


async def _median(name: str, call: Any, request: Any) -> float:
    samples = []
    items = 0
    for number in range(CALLS + 3):
        started = time.perf_counter()
        answer = await call(request)
        if number >= 3:
            samples.append(1e3 * (time.perf_counter() - started))
        items = len(getattr(answer, "annotations" if hasattr(answer, "annotations") else "records"))
    assert items or "late" in name, name
    return print_samples(f"{name} ({items} items)", samples, "ms")
