from __future__ import annotations

import inspect

import biosegment
from biosegment.client import asynchronous, sample_session, synchronous

GROUPS = (
    "platform",
    "projects",
    "volumes",
    "samples",
    "annotations",
    "instances",
    "models",
    "jobs",
    "segmentation",
)


def test_the_public_names_are_these() -> None:
    assert sorted(biosegment.__all__) == biosegment.__all__
    for name in biosegment.__all__:
        assert getattr(biosegment, name) is not None


def test_both_faces_have_the_same_methods_with_the_same_arguments() -> None:
    for group in GROUPS:
        name = group.capitalize()
        one, other = getattr(asynchronous, name), getattr(synchronous, name)
        methods = {key for key, _ in inspect.getmembers(one, inspect.isfunction) if key[0] != "_"}
        assert methods == {key for key in vars(other) if key[0] != "_"}
        for method in methods:
            parameters = inspect.signature(getattr(one, method)).parameters
            assert parameters == inspect.signature(getattr(other, method)).parameters, f"{name}.{method}"
            assert getattr(one, method).__doc__ == getattr(other, method).__doc__


def test_both_faces_have_the_same_session_of_samples() -> None:
    one, other = sample_session.SampleSession, synchronous.SampleSession
    assert inspect.signature(other.claim).parameters == inspect.signature(one.claim).parameters
    public = {key for key in vars(one) if key[0] != "_"}
    assert public == {key for key in vars(other) if key[0] != "_"}
    assert hasattr(other, "__enter__")
    assert hasattr(other, "__exit__")
    assert inspect.signature(synchronous.Samples.session).return_annotation == "SampleSession"
