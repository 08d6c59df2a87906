"""Test the library on a GPU in a few minutes: correctness, waits, speed.

python benchmark/on_gpu.py --device cuda --out FOLDER. Each phase runs in its own process with a time limit, so that
failures and hangs do not affect others; FOLDER gets a JSON file per phase, and all results as results.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # of the clone, in place of this folder

PHASES = {
    "equal": 60.0,
    "waits": 25.0,
    "speed": 90.0,
    "static": 150.0,
    "kernels": 20.0,
    "training": 60.0,
}
"""Time of each phase in seconds, in order of importance, by its module, which has a function of the same name. Time
unused by earlier phases is available to later ones.
"""

GRACE = 12.0
"""Seconds of overtime after which a phase is killed."""

SHORTEST = 8.0
"""Minimum number of seconds to start a phase."""


def main() -> None:
    """Parse the arguments and run the phases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/on_gpu"), help="folder for results (%(default)s)")
    parser.add_argument("--seconds", type=float, default=220, help="time for all phases (default: %(default)s)")
    parser.add_argument("--phases", default=",".join(PHASES), help="which, in this order (default: %(default)s)")
    parser.add_argument("--batch-sizes", default="512,64,2048", help="jets per batch (default: %(default)s)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)  # this process is that of a phase
    arguments = parser.parse_args()
    unknown = set(arguments.phases.split(",")) - set(PHASES)
    if unknown:
        parser.error(f"--phases: there is no {', '.join(sorted(unknown))}; there are {', '.join(PHASES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.phase:
        run_phase(arguments)
    else:
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Run the phases in order, and write their results as one page."""
    deadline, ended = time.monotonic() + arguments.seconds, {}
    for name in arguments.phases.split(","):
        left = deadline - time.monotonic()
        if left < SHORTEST:
            ended[name] = "skipped: no time left"
            continue
        print(f"== {name}", flush=True)
        ended[name] = _in_process(name, min(left, PHASES[name]), arguments)
        print(f"== {name}: {ended[name]}, {deadline - time.monotonic():.0f} s left", flush=True)
        _write_page(arguments.out, ended)


def run_phase(arguments: argparse.Namespace) -> None:
    """Run a phase in this process."""
    import torch

    from benchmark.gpu_phases.results import OutOfTime, Plan, Results

    plan = Plan(
        torch.device(arguments.device),
        tuple(int(size) for size in arguments.batch_sizes.split(",")),
        time.monotonic() + arguments.seconds,
    )
    results = Results(arguments.phase, arguments.out / f"{arguments.phase}.json", plan)
    try:
        with results.attempt(phase=arguments.phase):
            module = importlib.import_module(f"benchmark.gpu_phases.{arguments.phase}")
            getattr(module, arguments.phase)(plan, results)
    except OutOfTime:
        results.notes.append("the time was over before all was done")
    results.write()


def _in_process(name: str, seconds: float, arguments: argparse.Namespace) -> str:
    """Run a phase in a new process; returns how it ended."""
    command = [sys.executable, __file__, "--phase", name, "--seconds", str(seconds)]
    command += ["--device", arguments.device, "--out", str(arguments.out), "--batch-sizes", arguments.batch_sizes]
    process = subprocess.Popen(command, start_new_session=True)  # a new group, with its compiler processes
    try:
        code = process.wait(seconds + GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "killed, its time was over"
    return "ended" if code == 0 else f"died with {code}"


def _write_page(out: Path, ended: dict[str, str]) -> None:
    """All results as Markdown."""
    from benchmark.gpu_phases.results import as_markdown

    sections = ["# On a GPU\n\n" + "".join(f"- {name}: {how}\n" for name, how in ended.items())]
    for name in ended:
        path = out / f"{name}.json"
        if path.is_file():
            sections.append(as_markdown(json.loads(path.read_text(encoding="utf-8"))))
    (out / "results.md").write_text("\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
