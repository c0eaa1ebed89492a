"""What `biosegment project progress` prints."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import ParseDict

from biosegment.api.sampler.v1alpha1 import sampler_pb2 as pb
from biosegment.cli.progress import _print
from biosegment.client.resources import ProjectProgress

NAMES = {1: "none of the classes", 2: "mito [outer]"}
REPORT = {
    "annotations": 3,
    "newAnnotations": 1,
    "annotatedVoxels": 4000,
    "annotatedAreaUm2": 0.4,
    "samplesByState": {"annotated": 3, "leased": 1},
    "measuredAnnotations": 2,
    "workTimeS": 75.0,
    "medianWorkTimeS": 37.5,
    "rounds": 1,
    "authors": [
        {
            "author": "ann",
            "annotations": 3,
            "samples": 3,
            "voxels": 4000,
            "voxelsByClass": {"1": 3000, "2": 1000},
            "measuredAnnotations": 2,
            "workTimeS": 75.0,
            "medianWorkTimeS": 37.5,
            "reviews": {"pending": 2, "accepted": 1, "reverted": 1},
        }
    ],
    "classes": [{"classValue": 2, "annotations": 2, "voxels": 1000, "areaUm2": 0.1}],
    "days": [{"day": "2026-11-30", "annotations": 3, "voxels": 4000, "authors": 1}],
    "reviews": {"pending": 2, "accepted": 1, "reverted": 1},
    "models": [
        {"model": "models/a", "version": 1, "displayName": "one", "trainedAnnotations": 2},
        {
            "model": "models/b",
            "version": 2,
            "displayName": "two",
            "parent": "models/a",
            "trainedAnnotations": 30,
            "heldOutAnnotations": 5,
            "iou": 0.75,
            "parentIou": 0.75,
            "parentKept": True,
            "classes": [{"className": "mito [outer]", "iou": 0.75, "parentIou": 0.75}],
        },
    ],
    "hint": {
        "verdict": "VERDICT_TOO_FEW",
        "text": "mito [outer]: too few to tell.",
        "curves": [
            {
                "className": "mito [outer]",
                "points": [{"model": "models/b", "version": 2, "iou": 0.5, "error": 0.02, "annotations": 12}],
            }
        ],
    },
    "notice": "something is [missing]",
}


def printed(report: dict[str, object], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    _print(ProjectProgress.from_proto(ParseDict(report, pb.GetProgressResponse())), NAMES)
    done = capsys.readouterr()
    return done.out, done.err


def test_a_report_is_printed_with_names_and_without_invented_times(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, errors = printed(REPORT, capsys)
    assert "something is [missing]" in errors
    rows = [line.split() for line in output.splitlines()]
    assert "3, of which 1 are new to the newest model" in output
    assert "4,000 voxels: 0.4 um2 in single slices" in output
    assert "1:15 in the 2 of 3 annotations that were measured, median 37.5 s" in output
    assert "none of the classes 3,000, mito [outer] 1,000" in output
    assert "2 pending, 1 accepted, 1 taken back" in output
    assert ["mito", "[outer]", "2", "2", "1,000", "25.0%", "0.1"] in rows
    # Nobody measured on that day.
    assert ["2026-11-30", "3", "1", "4,000", "0", "of", "3"] in rows
    assert ["1", "one", "2", "0"] in rows
    (second,) = (line for line in output.splitlines() if line.startswith("2 "))
    assert "version 1" in second
    assert "mito [outer] 0.750 (parent 0.750)" in second
    assert "parent's weights were kept" in second
    assert ["mito", "[outer]", "2", "0.500", "0.020", "12", "##########"] in rows
    assert "More annotations? too few" in output
    assert "mito [outer]: too few to tell." in output


def test_a_project_without_anything_is_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    output, errors = printed({"hint": {"verdict": "VERDICT_TOO_FEW", "text": "nothing yet"}}, capsys)
    assert "not measured in any of 0 annotations" in output
    assert "nothing yet" in output
    assert errors == ""
