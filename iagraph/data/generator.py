"""Jets from Pythia8 and FastJet: one class of jets per hard process, written to one jet store.

The recipe (processes, settings, jet definition) is a YAML file, see `GenerateConfig`. The work is cut into tasks of a
fixed number of jets of one class, each with a random seed of its own. So the result depends neither on the number of
workers nor, shard by shard, on the number of machines.
"""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import StoreInfo, store_info
from iagraph.data.writer import write_store

try:
    import pythia8mc
    from tqdm import tqdm

    from iagraph.data.recipe import GenerateConfig, Splits
    from iagraph.data.selection import select_jets
except ImportError as error:
    raise ImportError(f"generating jets needs {error.name}: pip install 'iagraph[generate]'") from error

from iagraph.yaml_config import ConfigError, load_model

TASK_JETS = 250  # some 30 s of work: starting Pythia (0.5 s) does not matter, and the progress bar moves
BATCH_EVENTS = 100  # events in memory at once
SEEDS = 900_000_000  # Pythia takes seeds from 1 to this
PATIENCE = 10_000  # events without any jet before a task gives up
PACKAGES = ("fastjet", "iagraph", "numpy", "pythia8mc")


class GenerateError(RuntimeError):
    """Pythia refused a setting, or no event passes the selection."""


ERRORS = (BrokenProcessPool, ConfigError, GenerateError, StoreError)
"""What a user can put right: the message is enough, a traceback would not help."""


class Task(NamedTuple):
    """`jets` jets of class `label`; `seed` is Pythia's."""

    label: int
    number: int
    jets: int
    seed: int


class Result(NamedTuple):
    """The jets of a task, how many events were made, how many passed, and Pythia's cross section in mb."""

    task: Task
    jets: Jets
    events: int
    selected: int
    cross_section: float


def plan(classes: int, jets: int, seed: int, shard: tuple[int, int] = (1, 1)) -> list[Task]:
    """The tasks that make `jets` jets, or one shard's share of them.

    The first classes get one jet more where the number does not divide. Seeds count up from a start that depends on
    `seed`, so no two tasks of a run share one, on however many machines it is made. A shard (K, M) has every M-th task
    of each class, beginning with the K-th.
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
    """Generate events until a task has its jets.

    Raises:
        GenerateError: If Pythia refuses a setting or cannot start, or no event passes the selection.
    """
    process = config.processes[task.label]
    pythia = pythia8mc.Pythia("", False)  # without the banner
    settings = [*config.pythia, *process.pythia, "Random:setSeed = on", f"Random:seed = {task.seed}"]
    for setting in ("Print:quiet = on", *settings):
        if not pythia.readString(setting):
            raise GenerateError(f"process {process.name}: Pythia does not know '{setting}'; correct the configuration")
    if not pythia.init():
        raise GenerateError(f"process {process.name}: Pythia cannot start with {settings}; correct the configuration")
    parts: list[Jets] = []
    events = selected = 0
    while selected < task.jets:
        batch = pythia.nextBatch(BATCH_EVENTS)
        parts.append(select_jets(batch, config, task.label))
        events, selected = events + len(batch), selected + len(parts[-1])
        if selected == 0 and len(parts) * BATCH_EVENTS >= PATIENCE:
            raise GenerateError(f"process {process.name}: no jet in {events} events; correct the process or the window")
    jets = Jets.concatenate(parts).take(np.arange(task.jets))
    return Result(task, jets, events, selected, pythia.infoPython().sigmaGen())


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker without a traceback of its own
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # FastJet and Pythia write their banners past sys.stdout


def _run_tasks(tasks: list[Task], config: GenerateConfig, workers: int) -> list[Result]:
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    results = []
    with (
        tqdm(total=sum(task.jets for task in tasks), unit="jet") as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool,
    ):
        try:
            for future in as_completed([pool.submit(run_task, task, config) for task in tasks]):
                results.append(future.result())
                progress.update(results[-1].task.jets)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()  # or a task that nobody wants any more would run to its end
            raise
    return sorted(results, key=lambda result: (result.task.label, result.task.number))


def _check_output(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise StoreError(f"{out}: exists already; choose another file, or --force to replace it")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise StoreError(f"{out}: cannot write into its folder ({error.strerror}); choose another one") from error


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
    """Generate jets after a recipe and write them, classes mixed, to one store.

    Args:
        config_path: The recipe, see `GenerateConfig`.
        out: The file to write.
        jets: Number of jets of all classes and shards together.
        workers: Number of processes; the result does not depend on it.
        overrides: Changes of the recipe, `key=value`, for example `seed=7`.
        shard: (K, M) makes the K-th of M shares, K from 1; together they are the jets of the run without shards.
        force: Replace an existing file.

    Returns:
        What the new store says about itself.

    Raises:
        ConfigError: If the recipe is wrong.
        GenerateError: If there is nothing to do, or Pythia cannot do it.
        StoreError: If the file exists or cannot be written.
    """
    out = Path(out)
    _check_output(out, force)
    config = load_model(GenerateConfig, config_path, overrides)
    tasks = plan(len(config.processes), jets, config.seed, shard)
    if not tasks:
        raise GenerateError(f"shard {shard[0]}/{shard[1]} of {jets} jets is empty; ask for more jets or fewer shards")
    results = _run_tasks(tasks, config, workers)
    made = Jets.concatenate([result.jets for result in results])
    made = made.take(np.random.default_rng([config.seed, *shard]).permutation(len(made)))
    shares = np.cumsum([0, *config.splits.model_dump().values()])
    counts = np.diff(np.round(shares / shares[-1] * len(made)).astype(int)).tolist()
    provenance = {
        "config": config.model_dump(exclude_none=True),
        "jets": jets,
        "shard": list(shard),
        "versions": {package: version(package) for package in PACKAGES},
        "processes": {
            process.name: _statistics(mine)
            for label, process in enumerate(config.processes)
            if (mine := [result for result in results if result.task.label == label])
        },
    }
    write_store(out, made, splits=dict(zip(Splits.model_fields, counts, strict=True)), provenance=provenance)
    return store_info(out)


def _statistics(results: list[Result]) -> dict[str, float]:
    events, selected = sum(result.events for result in results), sum(result.selected for result in results)
    cross_section = sum(result.events * result.cross_section for result in results) / events
    return {"events": events, "selected": selected, "efficiency": selected / events, "cross_section_mb": cross_section}
