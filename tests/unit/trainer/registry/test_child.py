"""Whatever happens in a process of its own, its reason comes out in words that can be shown."""

from __future__ import annotations

import pytest
from biosegment_trainer.registry.child import run_child

from biosegment.errors import InvalidArgument, NotFound

_MAIN = """
from biosegment.errors import NotFound
from biosegment_trainer.registry.child import answer

def work(task):
    {work}

answer(work)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a body of `work` as a child."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    async def run(work):
        (tmp_path / "child_of_test.py").write_text(_MAIN.format(work=work))
        return await run_child("child_of_test", {"folder": str(tmp_path)})

    return run


async def test_what_a_child_returns_comes_back_whatever_it_printed_before(run):
    assert await run("print('hello'); return {'a': [1]}") == {"a": [1]}


async def test_an_unexpected_exception_is_named(run):
    with pytest.raises(InvalidArgument) as error:
        await run("'\\ud800'.encode()")
    assert error.value.reason == "BAD_BUNDLE"
    assert error.value.message.startswith(
        "the bundle cannot be read: UnicodeEncodeError: 'utf-8' codec can't"
    )
    with pytest.raises(InvalidArgument, match="cannot be read: RecursionError: "):
        await run("work(task)")


async def test_messages_are_bounded_and_can_be_shown(run):
    with pytest.raises(InvalidArgument) as error:
        await run("raise KeyError('x' * 10**6)")
    assert len(error.value.message) < 400
    with pytest.raises(InvalidArgument) as error:
        await run("raise ValueError(f\"\\x1b[1mno\\x1b[0m \\ud800\\n{task['folder']}/a.json\")")
    assert error.value.message == "the bundle cannot be read: ValueError: no a.json"
    with pytest.raises(NotFound) as own:
        await run("raise NotFound('GONE', '\\ud800 ' + 'µ' * 10**6)")
    assert own.value.reason == "GONE"
    assert own.value.message.encode()
    assert len(own.value.message) <= 4000


@pytest.mark.parametrize(
    "work", ["bytearray(1 << 40)", 'raise RuntimeError("DefaultCPUAllocator: can\'t allocate memory")']
)
async def test_too_much_memory_is_told_apart(run, work):
    with pytest.raises(InvalidArgument, match="more memory than is allowed"):
        await run(work)


async def test_a_child_that_ends_without_an_answer_ran_into_its_limits(run):
    with pytest.raises(InvalidArgument, match="limits of time and memory"):
        await run("import os; os._exit(9)")
