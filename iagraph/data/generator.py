"""Jet generation with Pythia8 and FastJet: one class per hard process, written to one jet store.

The recipe (processes, settings, jet definition) is a YAML file, see ``GenerateConfig``. The work is split into tasks of
a fixed number of jets of one class, each with its own random seed, so the jets depend neither on the number of workers
nor on the number of machines that share the work in shards. Finished tasks are kept (:mod:`iagraph.data.parts`): the
same command resumes an interrupted run.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.parts import Counts, Parts, Result, Task
from iagraph.data.store import PART, StoreInfo, store_info
from iagraph.data.writer import StoreWriter
from iagraph.files import LockedError, user_path
from iagraph.machine import versions
from iagraph.workers import end_with_parent

try:
    import pythia8mc
    from tqdm import tqdm

    from iagraph.data.recipe import GenerateConfig, Splits, Veto
    from iagraph.data.selection import select_jets
except ImportError as error:
    raise ImportError(f"generating jets needs {error.name}: pip install 'iagraph[generate]'") from error

from iagraph.yaml_config import ConfigError, load_model

TASK_JETS = 250  # about 30 s: Pythia's start (0.5 s) is negligible, and the progress bar moves
BATCH_EVENTS = 100  # events held in memory
SEEDS = 900_000_000  # largest seed of Pythia; the smallest is 1
PATIENCE = 10_000  # events without a selected jet before a task gives up
RESONANCE_SHOWER = 5  # where Pythia's shower is: in the decay of a resonance, after the shower of the hard process


class GenerateError(RuntimeError):
    """Jets cannot be generated, for example because Pythia refused a setting or no event passes the selection."""


ERRORS = (ConfigError, GenerateError, LockedError, StoreError)
"""Errors that a user can correct: scripts print the message without a traceback."""


class _ShowerVeto(pythia8mc.UserHooks):
    """The veto of a recipe, as Pythia calls it for each event of the process of this name.

    Raises:
        GenerateError: it drops 10,000 events in a row; Pythia itself would not stop.
    """

    def __init__(self, veto: Veto, process: str) -> None:
        super().__init__()
        self.veto, self.process = veto, process
        self.dropped = 0  # since the last event that passed

    def canVetoPT(self) -> bool:
        return True

    def scaleVetoPT(self) -> float:
        return self.veto.scale

    def doVetoPT(self, position: int, event: Any) -> bool:
        if position == RESONANCE_SHOWER:
            return False
        final = (event[row] for row in range(event.size()) if event[row].isFinal())
        if sum(particle.pT() for particle in final) >= 2 * self.veto.pt_min:
            self.dropped = 0
            return False
        self.dropped += 1
        if self.dropped == PATIENCE:
            raise GenerateError(
                f"process {self.process}: the veto dropped {PATIENCE} events in a row; lower veto.pt_min, or raise "
                "PhaseSpace:pTHatMin"
            )
        return True


def plan(classes: int, jets: int, seed: int, shard: tuple[int, int] = (1, 1)) -> list[Task]:
    """The tasks that generate ``jets`` jets of ``classes`` classes, or one shard of them.

    If ``jets`` is not a multiple of ``classes``, the first classes get one more. Seeds count up from a start derived
    from ``seed``, so no two tasks share one, on any number of machines. Shard (K, M) has every M-th task of each class,
    starting with the K-th.
    """
    start = int(np.random.default_rng(seed).integers(SEEDS))
    tasks = []
    for label in range(classes):
        total = jets // classes + (label < jets % classes)
        for number, done in list(enumerate(range(0, total, TASK_JETS)))[shard[0] - 1 :: shard[1]]:
            task_seed = 1 + (start + number * classes + label) % SEEDS
            tasks.append(Task(label, number, min(TASK_JETS, total - done), task_seed))
    return tasks


def run_task(task: Task, config: GenerateConfig) -> Result:
    """Generate events until a task is complete.

    Raises:
        GenerateError: Pythia refuses a setting or cannot start, or none of the first 10,000 events is selected, or
            passes the veto.
    """
    process = config.processes[task.label]
    settings = [*config.pythia, *process.pythia, "Random:setSeed = on", f"Random:seed = {task.seed}"]
    with _captured_output() as output:
        pythia = pythia8mc.Pythia("", False)  # without the banner
        if veto := config.veto and _ShowerVeto(config.veto, process.name):  # Pythia does not keep it alive
            pythia.setUserHooksPtr(veto)
        problem = _start_problem(pythia, settings)
    if problem:
        raise GenerateError(f"process {process.name}: {problem}. Its output: {output() or 'none'}")
    parts: list[Jets] = []
    generator = np.random.default_rng(task.seed)  # of the detector
    events = selected = 0
    while selected < task.jets:
        batch = pythia.nextBatch(BATCH_EVENTS)
        parts.append(select_jets(batch, config, task.label, generator))
        events, selected = events + len(batch), selected + len(parts[-1])
        if selected == 0 and len(parts) * BATCH_EVENTS >= PATIENCE:
            raise GenerateError(
                f"process {process.name}: no jet selected in {events} events; correct the process or the selection"
            )
    jets = Jets.concatenate(parts).take(np.arange(task.jets))
    return Result(task, jets, Counts(events, selected, pythia.infoPython().sigmaGen()))


def _start_problem(pythia: Any, settings: Sequence[str]) -> str:
    """Start Pythia with these settings; the reason if it does not start, else an empty string."""
    if not pythia.readString("Print:quiet = on"):  # its data files are missing or of another release
        return "Pythia cannot start"
    for setting in settings:
        if not pythia.readString(setting):
            return f"Pythia does not know '{setting}'; correct the configuration"
    if pythia.init():
        return ""
    verbose = pythia8mc.Pythia("", False)  # a quiet one hides the reason
    for setting in settings:
        verbose.readString(setting)
    verbose.init()
    return f"Pythia cannot start with {list(settings)}; correct the configuration"


@contextmanager
def _captured_output() -> Iterator[Callable[[], str]]:
    """Capture standard output, even past ``sys.stdout``; yields a function that returns it in one line afterwards."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield lambda: " ".join(line for line in lines if line and line[0] not in "|*")[:600]
        finally:
            os.dup2(before, 1)
            os.close(before)
            file.seek(0)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the worker on Ctrl-C
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # banners of FastJet and Pythia bypass sys.stdout
    end_with_parent()


def _run_task(task: Task, config: GenerateConfig, parts: Parts) -> Task:
    parts.keep(run_task(task, config))
    return task


def _run_tasks(tasks: Sequence[Task], config: GenerateConfig, parts: Parts, workers: int) -> None:
    """Run the unfinished tasks."""
    missing = [task for task in tasks if not parts.holds(task)]
    if not missing:
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    jets, kept = (sum(task.jets for task in some) for some in (tasks, set(tasks) - set(missing)))
    with (
        tqdm(total=jets, initial=kept, unit="jet") as progress,
        ProcessPoolExecutor(min(workers, len(missing)), mp_context=context, initializer=_start_worker) as pool,
    ):
        try:
            for future in as_completed([pool.submit(_run_task, task, config, parts) for task in missing]):
                progress.update(future.result().jets)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # or its task would run to the end in vain
            raise


def _check_output(out: Path, force: bool) -> None:
    if out.is_dir():
        raise StoreError(f"{out}: a folder; name a file in it")
    if out.exists() and not force:
        raise StoreError(f"{out}: already exists; choose another file, or replace it with --force")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise StoreError(f"{out}: cannot write to its folder ({error.strerror}); choose another one") from error


def generate(
    config_path: str | Path,
    out: str | Path,
    *,
    jets: int,
    workers: int = 1,
    overrides: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
    force: bool = False,
) -> StoreInfo:
    """Generate jets from a recipe and write them, classes mixed, to one store.

    Finished tasks are kept in ``OUT.parts`` until the store is written; the same call resumes from there.

    Args:
        config_path: the recipe, see ``GenerateConfig``.
        out: the file to write.
        jets: total number of jets over all classes and shards.
        workers: number of processes; the result does not depend on it.
        overrides: changes to the recipe, ``key=value``, for example ``seed=7``.
        shard: (K, M) generates the K-th of M shards, counted from 1; together they hold the jets of the unsharded run.
        force: replace an existing file, and remove finished tasks of a different run.

    Returns:
        The new store's :class:`StoreInfo`.

    Raises:
        ConfigError: the recipe is invalid.
        GenerateError: the shard is empty, Pythia fails, no event is selected, or a worker was killed.
        KeyboardInterrupt: its message says what is kept.
        LockedError: another process is writing the same file.
        StoreError: the file cannot be written; or, without ``force``, it exists or ``OUT.parts`` holds tasks of a
            different run.
    """
    out = user_path(out)
    _check_output(out, force)
    config = load_model(GenerateConfig, config_path, overrides)
    tasks = plan(len(config.processes), jets, config.seed, shard)
    if not tasks:
        raise GenerateError(f"shard {shard[0]}/{shard[1]} of {jets} jets is empty; ask for more jets or fewer shards")
    generation = {
        "config": config.model_dump(exclude_none=True),
        "jets": jets,
        "shard": list(shard),
        "versions": versions("fastjet", "numpy", "pythia8mc"),
    }
    parts = Parts(out, generation | {"task_jets": TASK_JETS})
    with parts.opened(force):
        try:
            _run_tasks(tasks, config, parts, workers)
            _write(out, tasks, config, parts, generation)
        except (BrokenProcessPool, KeyboardInterrupt) as error:
            kept = sum(map(parts.holds, tasks))
            state = f"{kept} of {len(tasks)} tasks are kept in {parts.folder}; the same command resumes"
            state = state if kept else "no task had finished"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(f"{out} was not written; {state}") from None
            raise GenerateError(
                f"a worker was killed; {state}. If memory ran out, use fewer --workers than {workers}"
            ) from error
        parts.remove()
    return store_info(out)


def _write(out: Path, tasks: Sequence[Task], config: GenerateConfig, parts: Parts, generation: dict[str, Any]) -> None:
    """Write the jets of all tasks in random order."""
    jets, counts = parts.joined(tasks)
    order = np.random.default_rng([config.seed, *generation["shard"]]).permutation(len(jets))
    fractions = np.cumsum([0, *config.splits.model_dump().values()])
    bounds = np.round(fractions / fractions[-1] * len(jets)).astype(int).tolist()
    statistics = {
        process.name: _statistics(mine)
        for label, process in enumerate(config.processes)
        if (mine := [count for task, count in zip(tasks, counts, strict=True) if task.label == label])
    }
    with StoreWriter(out, jets.classes, generation | {"processes": statistics}) as writer:
        for split, begin, end in zip(Splits.model_fields, bounds, bounds[1:], strict=False):
            for first in range(begin, max(end, begin + 1), PART):  # once for an empty split
                writer.append(jets.take(order[first : min(first + PART, end)]), split)


def _statistics(counts: Sequence[Counts]) -> dict[str, float]:
    events, selected = (sum(each) for each in list(zip(*counts, strict=True))[:2])
    cross_section = sum(count.events * count.cross_section for count in counts) / events
    return {"events": events, "selected": selected, "efficiency": selected / events, "cross_section_mb": cross_section}
