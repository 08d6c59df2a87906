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
from typing import Any, NamedTuple

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import StoreInfo, store_info
from iagraph.data.writer import write_store

try:
    import awkward as ak
    import fastjet
    import pythia8mc
    from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
    from tqdm import tqdm
except ImportError as error:
    raise ImportError(f"generating jets needs {error.name}: pip install 'iagraph[generate]'") from error

from iagraph.yaml_config import ConfigError, load_model

TASK_JETS = 250  # some 30 s of work: starting Pythia (0.5 s) does not matter, and the progress bar moves
BATCH_EVENTS = 100  # events in memory at once
SEEDS = 900_000_000  # Pythia takes seeds from 1 to this
NEUTRINOS = (12, 14, 16)
RESONANCE, PARTON = 22, 23  # Pythia's |status| of what leaves the hard process; tops and W are resonances
TOP, W, QUARKS = 6, 24, (1, 2, 3, 4, 5)
PATIENCE = 10_000  # events without any jet before a task gives up
PACKAGES = ("fastjet", "iagraph", "numpy", "pythia8mc")


class GenerateError(RuntimeError):
    """Pythia refused a setting, or no event passes the selection."""


ERRORS = (BrokenProcessPool, ConfigError, GenerateError, StoreError)
"""What a user can put right: the message is enough, a traceback would not help."""


class Section(BaseModel):
    """A part of the configuration: an unknown key is an error, and so is a value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Process(Section):
    """One class of jets: `pythia` settings switch the hard process on, `partons` are its allowed outgoing |PDG ids|.

    With `top_radius`, a jet is kept only if a top and the three quarks of its decay, t -> b W -> b q q', all lie within
    this distance of it, see `holds_hadronic_top`.
    """

    name: str
    pythia: list[str]
    partons: list[int] = Field(min_length=1)
    top_radius: float | None = Field(default=None, gt=0)


class JetSelection(Section):
    """The hardest anti-kT jet of an event is kept if it lies in this window: pt in GeV, and either |y| or |eta|."""

    radius: float = Field(gt=0)
    pt_min: float = Field(gt=0)
    pt_max: float = Field(gt=0)
    rapidity_max: float | None = Field(default=None, gt=0)
    pseudorapidity_max: float | None = Field(default=None, gt=0)

    @field_validator("pt_max")
    @classmethod
    def _above_pt_min(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("pt_min", 0):
            raise ValueError(f"should be above pt_min, {info.data['pt_min']}")
        return value

    @model_validator(mode="after")
    def _one_window(self) -> "JetSelection":
        if (self.rapidity_max is None) == (self.pseudorapidity_max is None):
            raise ValueError("should have exactly one of rapidity_max and pseudorapidity_max")
        return self


class Splits(Section):
    """Relative shares of the parts of the store, in file order."""

    train: float = Field(gt=0)
    val: float = Field(ge=0)
    test: float = Field(ge=0)


class GenerateConfig(Section):
    """A recipe: classes in the order of their labels, Pythia settings common to all, and what to keep."""

    processes: list[Process] = Field(min_length=1)
    pythia: list[str]
    jet: JetSelection
    splits: Splits
    seed: int = Field(ge=0)
    mantissa_bits: int = Field(ge=1, le=23)


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


def round_mantissa(values: np.ndarray, bits: int) -> np.ndarray:
    """float32 values rounded to the nearest with `bits` mantissa bits: relative error at most 2^-(bits + 1).

    The cleared bits compress to almost nothing; CMS stores its NanoAOD in the same way.
    """
    drop = 23 - bits
    integers = values.astype(np.float32).view(np.uint32)
    rounded = (integers + ((1 << drop) >> 1)) >> drop << drop
    return rounded.view(np.float32)


def _is_one_of(ids: Any, species: Sequence[int]) -> Any:
    return ak.unflatten(np.isin(np.abs(ak.to_numpy(ak.flatten(ids))), species), ak.num(ids))


def _near(phi: np.ndarray, axis: np.ndarray) -> np.ndarray:
    # The same direction, within pi of the axis.
    return axis + (phi - axis + np.pi) % (2 * np.pi) - np.pi


def holds_hadronic_top(record: Any, rapidity: np.ndarray, phi: np.ndarray, radius: float) -> np.ndarray:
    """Whether a top and the three quarks of its decay t -> b W -> b q q' lie within `radius` of the event's jet.

    Distances are sqrt(dy^2 + dphi^2), as anti-kT measures them. A shower writes a particle anew whenever it changes its
    momentum. So the top and the W are the last of their copies, those which decay; the quarks are as they leave the
    decay, before they radiate. The b may be another quark, since |Vtb| < 1.

    Args:
        record: The particles of `pythia.nextBatch`, events with one jet each.
        rapidity: Rapidity of the jets, (events,).
        phi: Azimuth of the jets, (events,).
        radius: Limit of the distance between the jet's axis and each of the four.

    Returns:
        (events,), bool.
    """
    # One table of the particles of all events; Pythia counts daughters from the beginning of an event.
    counts = ak.to_numpy(ak.num(record.id))
    event, first = np.repeat(np.arange(len(counts)), counts), np.repeat(np.cumsum(counts) - counts, counts)
    ids, status, *daughters = (ak.to_numpy(ak.flatten(record[x])) for x in ("id", "status", "daughter1", "daughter2"))
    species, children = np.abs(ids), np.stack([daughter + first for daughter in daughters], axis=1)

    def last_copy(row: np.ndarray) -> np.ndarray:
        while (same := ids[children[row]] == ids[row, None]).any():
            row = np.where(same[:, 0], children[row, 0], np.where(same[:, 1], children[row, 1], row))
        return row

    top = last_copy(np.flatnonzero((species == TOP) & (np.abs(status) == RESONANCE)))
    top = top[(species[children[top]] == W).any(axis=1)]  # one that Pythia was told not to decay has no W
    b, w = np.take_along_axis(children[top], np.argsort(species[children[top]] == W, axis=1), axis=1).T
    partons = np.column_stack([top, b, children[last_copy(w)]])  # (tops, 4)
    partons = partons[np.isin(species[partons[:, 1:]], QUARKS).all(axis=1)]  # not those of leptonic decays
    px, py, pz, energy = (ak.to_numpy(ak.flatten(record.p[name]))[partons] for name in ("px", "py", "pz", "e"))
    y, axis_y, axis_phi = np.arctanh(pz / energy), rapidity[event[partons]], phi[event[partons]]
    distance = np.hypot(y - axis_y, _near(np.arctan2(py, px), axis_phi) - axis_phi)
    holds = np.zeros(len(counts), dtype=bool)
    holds[event[partons[(distance < radius).all(axis=1), 0]]] = True
    return holds


def select_jets(events: Any, config: GenerateConfig, label: int) -> Jets:
    """The hardest jet of every event that passes the selection, its particles in order of falling pt.

    y = asinh(pz / mT) with mT^2 = m^2 + pT^2 is the rapidity ln((E + pz) / (E - pz)) / 2 of the massive particle, free
    of cancellation. phi lies within pi of the jet's phi, outside [-pi, pi) if need be.

    Args:
        events: What `pythia.nextBatch` returns.
        config: The recipe.
        label: The class of these events.
    """
    record, window, process = events.prt, config.jet, config.processes[label]
    hard = record.id[_is_one_of(record.status, (RESONANCE, PARTON))]
    final = (record.status > 0) & ~_is_one_of(record.id, NEUTRINOS)
    pid, mass, p = record.id[final], record.m[final], record.p[final]
    momenta = ak.zip({"px": p.px, "py": p.py, "pz": p.pz, "E": p.e}, with_name="Momentum4D")
    cluster = fastjet.ClusterSequence(momenta, fastjet.JetDefinition(fastjet.antikt_algorithm, window.radius))
    jets, members = cluster.inclusive_jets(window.pt_min), cluster.constituent_index(window.pt_min)
    usable = ak.any(_is_one_of(hard, process.partons), axis=1) & (ak.num(jets) > 0)
    jets, members, momenta, pid, mass = (part[usable] for part in (jets, members, momenta, pid, mass))
    hardest = ak.argmax(np.hypot(jets.px, jets.py), axis=1, keepdims=True)
    # argmax might find nothing, so its results could miss; they cannot here, as every usable event has a jet.
    jet, members = ak.drop_none(jets[hardest][:, 0]), ak.drop_none(members[hardest][:, 0])
    jet_px, jet_py, jet_pz, jet_e = (ak.to_numpy(jet[name], allow_missing=False) for name in ("px", "py", "pz", "E"))
    jet_pt, jet_phi, jet_rapidity = np.hypot(jet_px, jet_py), np.arctan2(jet_py, jet_px), np.arctanh(jet_pz / jet_e)
    inside = jet_pt < window.pt_max
    if window.rapidity_max is not None:
        inside &= np.abs(jet_rapidity) < window.rapidity_max
    if window.pseudorapidity_max is not None:
        inside &= np.abs(np.arcsinh(jet_pz / jet_pt)) < window.pseudorapidity_max
    if process.top_radius is not None:
        inside &= holds_hadronic_top(record[usable], jet_rapidity, jet_phi, process.top_radius)
    members = members[inside]
    counts = ak.to_numpy(ak.num(members), allow_missing=False)
    px, py, pz, m, ids = (
        ak.to_numpy(ak.flatten(values[inside][members])) for values in (momenta.px, momenta.py, momenta.pz, mass, pid)
    )
    pt, phi = np.hypot(px, py), _near(np.arctan2(py, px), np.repeat(jet_phi[inside], counts))
    order = np.lexsort((-pt, np.repeat(np.arange(len(counts)), counts)))
    kinematics = {"pt": pt, "rapidity": np.arcsinh(pz / np.hypot(m, pt)), "phi": phi}
    particles = {name: round_mantissa(values[order], config.mantissa_bits) for name, values in kinematics.items()}
    particles |= {"mass": m[order].astype(np.float32), "pid": ids[order].astype(np.int32)}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    classes = tuple(process.name for process in config.processes)
    return Jets(particles, offsets, np.full(len(counts), label), classes)


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
