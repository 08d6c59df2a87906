"""Training of the runs of a study, in separate, concurrent processes; a restarted study skips finished runs.

A run is trained in a folder whose name ends in ``.unfinished``, which is renamed when complete, so a folder with the
name of a run always holds a finished run. A restarted study resumes unfinished runs after their last epoch.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from iagraph.memory import tune_memory
from iagraph.studies.compare.config import PlannedRun
from iagraph.studies.runs import read_json
from iagraph.train.checkpoints import state_file
from iagraph.train.config import Config, changed, load_config
from iagraph.train.folder import RunError
from iagraph.train.origin import origin
from iagraph.train.run import train_into
from iagraph.train.trainer import USER_ERRORS
from iagraph.workers import end_with_parent

UNFINISHED = ".unfinished"


def train_runs(runs: Sequence[PlannedRun], jobs: int) -> None:
    """Train runs, ``jobs`` at a time, with the threads divided among them; print a line after each.

    An interrupt ends all of them. A failed run does not stop the others.

    Raises:
        RunError: some runs failed; the message names them with the reasons.
    """
    waiting, active, failed = list(runs), list[_Process](), list[str]()
    threads = max(1, torch.get_num_threads() // jobs)
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                active.append(_start(waiting.pop(0), threads))
            wait([item.process.sentinel for item in active])
            for item in [item for item in active if not item.process.is_alive()]:
                active.remove(item)
                if problem := item.problem():
                    failed.append(f"{item.run}: {problem}")
                said = f"failed: {problem}" if problem else auc_text(item.run.folder)
                left = len(waiting) + len(active)
                print(f"{item.run}: {said} ({time.monotonic() - item.start:.0f} s; runs left: {left})", flush=True)
    finally:
        for item in active:
            item.process.kill()
        for item in active:
            item.process.join()
    if failed:
        count = f"{len(failed)} of {len(runs)} runs failed, so there is no table; the others are kept"
        raise RunError("\n".join([f"{count}. Correct these, or leave them out, and start again:", *failed]))


@dataclass(frozen=True)
class _Process:
    """A run being trained; ``answer`` receives an error message on failure."""

    run: PlannedRun
    process: SpawnProcess
    answer: Connection
    start: float

    def problem(self) -> str | None:
        """Why an ended process did not finish its run; None if it did."""
        if self.run.folder.is_dir():
            return None
        try:
            return self.answer.recv()
        except EOFError:
            return (
                f"its process ended with exit code {self.process.exitcode}; negative ones are signals, -9 may be memory"
            )


def _start(run: PlannedRun, threads: int) -> _Process:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_train, args=(run, threads, sender))
    # Ctrl-C reaches all processes of a terminal. Training processes inherit SIG_IGN; the study ends them itself.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    sender.close()  # leaves only the child's copy open, so that recv() raises EOFError once the child ends
    return _Process(run, process, receiver, time.monotonic())


def _train(run: PlannedRun, threads: int, answer: Connection) -> None:
    end_with_parent()  # a run of a killed study would disturb the next study
    torch.set_num_threads(threads)
    tune_memory()
    unfinished = run.folder.with_name(run.folder.name + UNFINISHED)
    begun = unfinished.exists()
    advice = f"; if this remains, delete {unfinished} to begin this run again" if begun else ""
    try:
        if begun and not _can_be_resumed(unfinished, run.config):
            shutil.rmtree(unfinished)
        train_into(unfinished, run.config)
        unfinished.rename(run.folder)
    except USER_ERRORS as error:
        answer.send(f"{error}{advice}")
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}{advice}")
        raise


def _can_be_resumed(folder: Path, config: Config) -> bool:
    """Whether an unfinished run has finished an epoch.

    Raises:
        RunError: it has, but with another configuration.
    """
    if not state_file(folder / "checkpoints").exists():
        return False
    if other := _listed(config, load_config(folder / "config.yaml")):
        raise RunError(f"{folder}: holds an unfinished run that differs from the requested one: {_some(other)}")
    return True


def _listed(config: Config, found: Config) -> list[str]:
    """Differences of an existing run from the requested one."""
    return [
        f"{key} was {json.dumps(was)}, is {json.dumps(wanted)}" for key, (wanted, was) in changed(config, found).items()
    ]


def _some(differences: list[str]) -> str:
    return "; ".join(differences[:5]) + ("; ..." if len(differences) > 5 else "")


def is_finished(
    run: PlannedRun,
    fingerprints: dict[str, dict[str, str]],
    advice: str = "give the comparison another name, or delete this folder",
) -> bool:
    """Whether a run exists already, with the same configuration, jets and initial weights.

    Jets are compared by content, not by file name. So are initial weights and teachers, if they still exist: a finished
    run no longer needs them.

    Args:
        run: the run.
        fingerprints: for each role, the fingerprint of each jet file.
        advice: advice in the error message if the folder holds a different run.

    Raises:
        RunError: the folder holds a different run, or its record is damaged.
    """
    if not run.folder.exists():
        return False
    other = _listed(run.config, load_config(run.folder / "config.yaml"))
    trained_on, started_from = read_json(
        run.folder / "model.json",
        lambda found: (
            {role: list(found["data"][role].values()) for role in fingerprints},
            list(found["started_from"].values()),
        ),
    )
    other += [
        f"the jets of data.{role} differ"
        for role, files in fingerprints.items()
        if trained_on[role] != list(files.values())
    ]
    with suppress(FileNotFoundError):
        if started_from != list(origin(run.config).values()):
            other.append("the initial weights or the teacher (fine_tune.weights, distill.teacher) differ")
    if other:
        raise RunError(
            f"{run.folder}: holds a finished run that differs from the requested one: {_some(other)}; {advice}"
        )
    return True


def auc_text(folder: Path) -> str:
    """The AUC of a finished run, as text for a progress line."""
    return read_json(folder / "metrics.json", lambda found: f"AUC {found['tagger']['auc']['value']:.4f}")
