"""Many runs, one process each."""

from __future__ import annotations

import fcntl
import multiprocessing
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path


def work(file: Path, run: Callable[[Sequence[str]], None]) -> int:
    """Do the runs of a file from top to bottom, leaving those that another worker is at.

    The file is read anew after every run, so that runs can be added and moved. Returns 1 when a run failed.

    Args:
        file: A run a line; what follows a # is a remark.
        run: Does one, given the words of its line; called in a process of its own, which is forked: loading PyTorch
            again would take as long as a round.
    """
    done: set[str] = set()
    failed = False
    claims = Path(f"{file}.claims")
    claims.mkdir(exist_ok=True)
    context = multiprocessing.get_context("fork")
    while True:
        lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
        line = next((line for line in lines if line and line not in done), None)
        if line is None:
            return int(failed)
        done.add(line)
        claim = claims / line.replace("/", "-by-").replace(" ", "_")
        with claim.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            process = context.Process(target=run, args=(shlex.split(line),))
            process.start()
            process.join()
            if process.exitcode:
                print(f"{line}: exit status {process.exitcode}", flush=True)
                failed = True
