"""The process that segments on CPUs: `python -m biosegment_trainer.interaction.child`.

It reads pickles from standard input, each after its length in eight bytes, the first one its `SegmenterConfig`, and
answers in the same way on what was its standard output. It ends with the process that started it.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import struct
import threading
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from biosegment.errors import BiosegmentError, Internal, ResourceExhausted
from biosegment.parent import end_with_parent

if TYPE_CHECKING:
    from biosegment_trainer.interaction.engine import Engine
    from biosegment_trainer.interaction.task import LabelTask, SegmentTask

LENGTH: Final = struct.Struct("<Q")
READY: Final = "ready"


def main() -> None:
    """Serve until standard input ends."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tasks = os.fdopen(os.dup(0), "rb")
    # Libraries that print must not get between our answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config, memory_bytes = _read(tasks)
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    from biosegment_trainer.interaction.engine import Engine

    engine = Engine(config)
    _write(answers, READY)
    inbox = _Inbox(tasks)
    while True:
        _write(answers, answer(engine, inbox.next()))


def answer(engine: Engine, task: SegmentTask | LabelTask) -> object:
    """What `engine.segment(task)` returns, or the error that it raises."""
    try:
        return engine.segment(task)
    except BiosegmentError as error:
        return error
    except MemoryError:
        return _too_much()
    except Exception as error:
        # torch says so in a RuntimeError.
        if "allocate" in str(error):
            return _too_much()
        traceback.print_exc()
        return Internal("SEGMENTER_FAILED", f"the segmentation failed: {error!r}"[:500])


def _too_much() -> ResourceExhausted:
    return ResourceExhausted(
        "OUT_OF_MEMORY", "the request needs more memory than one may use; ask for a smaller region"
    )


class _Inbox:
    """Reads ahead in a thread, which ends the process when whoever asks is gone, also in the middle of a task."""

    def __init__(self, tasks: BinaryIO) -> None:
        self._tasks = tasks
        self._slot: list[SegmentTask | LabelTask] = []
        self._filled, self._taken = threading.Semaphore(0), threading.Semaphore(1)
        threading.Thread(target=self._run, daemon=True).start()

    def next(self) -> SegmentTask | LabelTask:
        self._filled.acquire()
        task = self._slot.pop()
        self._taken.release()
        return task

    def _run(self) -> None:
        while True:
            self._taken.acquire()
            try:
                self._slot.append(_read(self._tasks))
            except MemoryError:
                os._exit(1)
            self._filled.release()


def _read(tasks: BinaryIO) -> Any:
    head = tasks.read(LENGTH.size)
    if len(head) < LENGTH.size:
        os._exit(0)
    (length,) = LENGTH.unpack(head)
    data = tasks.read(length)
    if len(data) < length:
        os._exit(0)
    return pickle.loads(data)


def _write(answers: BinaryIO, value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    answers.write(LENGTH.pack(len(data)))
    answers.write(data)
    answers.flush()


if __name__ == "__main__":
    main()
