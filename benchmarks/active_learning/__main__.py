"""The experiment on choosing what to annotate.

usage: python -m benchmarks.active_learning run TISSUE START STRATEGY SEED [--profile small] [--device cpu]
       python -m benchmarks.active_learning more TISSUE START STRATEGY SEED [--steps 400]
       python -m benchmarks.active_learning queue FILE
       python -m benchmarks.active_learning report
       python -m benchmarks.active_learning uncertainty

`run` does one run and writes its CSV after every round; killed, it goes on at its last finished round. `more` trains
the model of its last finished round longer, and prints what that changes. `queue` does the runs of a file, a line each
with the arguments of `run`, one process a run; several queues may share a file.
`report` reads all CSVs, and writes tables and plots. `uncertainty` prints what the models whose states are here are
uncertain of.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.active_learning.loop import STORE, Loop, Places
from benchmarks.active_learning.profile import PROFILES
from benchmarks.active_learning.queue import work
from benchmarks.active_learning.record import RUNS, STARTS, Name
from benchmarks.active_learning.tissue import TISSUES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="one run")
    more = commands.add_parser("more", help="do more steps help?")
    more.add_argument("--steps", type=int, default=400)
    for command in (run, more):
        command.add_argument("tissue", choices=sorted(TISSUES))
        command.add_argument("start", choices=STARTS)
        command.add_argument("strategy", help="such as entropy, entropy:0.75+stratified:0.25 or entropy/4")
        command.add_argument("seed", type=int)
        command.add_argument("--profile", choices=sorted(PROFILES), default="small")
        command.add_argument("--patches", type=int, help="where it ends; by default where the profile says")
        command.add_argument("--device", default="cpu")
        command.add_argument("--threads", type=int, default=1)
    queue = commands.add_parser("queue", help="the runs of a file")
    queue.add_argument("file", type=Path)
    report = commands.add_parser("report", help="tables and plots of all runs")
    for command in (run, more, queue, report):
        command.add_argument("--runs", type=Path, default=RUNS, help="folder of the CSVs")
    uncertainty = commands.add_parser("uncertainty", help="what models are uncertain of")
    for command in (run, more, queue, uncertainty):
        command.add_argument("--store", type=Path, default=STORE, help="folder of states")
    return parser


def _loop(options: argparse.Namespace) -> Loop:
    torch.set_num_threads(options.threads)
    name = Name(options.tissue, options.start, options.strategy, options.seed, options.profile)
    return Loop(name, Places(options.runs, options.store), options.device, options.patches)


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Do what is asked for."""
    parser = _parser()
    options = parser.parse_args()
    if options.command == "run":
        _loop(options).run(_say)
        return 0
    if options.command == "more":
        patches, before, after = _loop(options).more(options.steps)
        _say(f"{patches} patches: IoU {before:.3f}, after {options.steps} steps more {after:.3f}")
        return 0
    if options.command == "queue":
        folders = ["--runs", str(options.runs), "--store", str(options.store)]
        return work(options.file, lambda line: _loop(parser.parse_args(["run", *line, *folders])).run(_say))
    if options.command == "uncertainty":
        from benchmarks.active_learning import uncertainty

        return uncertainty.report(options.store, _say)
    from benchmarks.active_learning.report import report

    return report(options.runs)


if __name__ == "__main__":
    sys.exit(main())
