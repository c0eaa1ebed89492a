"""The process that parses one file, or writes one: `python -m biosegment_datastore.worker`.

It gets its task as one line of JSON on standard input and answers with lines of JSON on what was its standard output.
It has limits of its own and none of the datastore's secrets but those of the object storage, and it ends when the
datastore does: a crash in here ends one import, nothing else.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
from typing import Any, TextIO

from biosegment.errors import BiosegmentError, ResourceExhausted
from biosegment.parent import end_with_parent


def main() -> None:
    """Run the task of standard input."""
    end_with_parent(signal.SIGKILL)
    # Libraries that print must not get between our lines.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    if task["memory_bytes"]:
        resource.setrlimit(resource.RLIMIT_AS, (task["memory_bytes"], task["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _answer(answers, {"done": _run(task, answers)})
    except BiosegmentError as error:
        _answer(answers, {"error": [type(error).__name__, error.reason, error.message]})
    except MemoryError:
        _answer(answers, {"error": ["ResourceExhausted", "OUT_OF_MEMORY", _memory_message(task)]})
    except OSError as error:
        failure = disk_full(error)
        if failure is None:
            raise
        _answer(answers, {"error": [type(failure).__name__, failure.reason, failure.message]})
    # Threads of libraries need not be waited for.
    answers.flush()
    os._exit(0)


def disk_full(error: OSError) -> ResourceExhausted | None:
    """ResourceExhausted DISK_FULL when that is what happened."""
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceExhausted("DISK_FULL", f"no space left: {error.strerror}; make room and try again")
    return None


def _run(task: dict[str, Any], answers: TextIO) -> dict[str, Any]:
    def progress(done: int, total: int) -> None:
        _answer(answers, {"progress": [done, total]})

    # Imported late, under the limits.
    if task["kind"] == "import":
        from biosegment_datastore.imports.task import run_import

        return run_import(task, progress, lambda line: _answer(answers, {"log": line}))
    if task["kind"] == "import_labels":
        from biosegment_datastore.imports.label_task import run_label_import

        return run_label_import(task, progress)
    if task["kind"] == "catalogue":
        from biosegment_datastore.instances.task import run_catalogue

        return run_catalogue(task, progress)
    from biosegment_datastore.exports.task import run_export

    return run_export(task, progress)


def _memory_message(task: dict[str, Any]) -> str:
    return f"the file needs more than the {task['memory_bytes'] >> 20} MiB that one import may use"


def _answer(answers: TextIO, value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")


def _exit_at_end_of_input() -> None:
    # Where Linux does not do it, and when the parent died before it was called.
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
