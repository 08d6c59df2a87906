"""Jets per second and memory of our models and of other implementations of the same networks, on the same jets."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from benchmark.contenders import CONTENDERS, SLOTS, iaformer
from benchmark.limit import multiply_adds
from benchmark.measure import PeakMemory, Report, in_new_process
from iagraph.data import JetDataset, Jets, read_store, resolve
from iagraph.jets import JetBatch
from iagraph.memory import tune_memory

MODES = ("training", "inference")
Seconds = dict[tuple[str, str], list[float]]
"""Times of each contender and mode, by round."""

LIMIT = "IAFormer, matrix products only"

SLOW_STEP = 10.0
"""Seconds per training step above which an implementation runs only in the first rounds."""

IN_A_ROW = 0.5
"""Seconds for which a contender runs in each round, so that short steps do not suffer from cold caches."""

ROUNDS_OF_SLOW = 2
MEMORY_STEPS = 2
"""Steps whose peak memory is measured: the second one includes gradients and the optimiser's state."""

PRODUCT = 2048
"""Size of the square matrices whose product gives the peak rate of the processor."""

TARGETS: tuple[tuple[str, str, float, float], ...] = (
    ("IAFormer, iagraph", "IAFormer, reference layout", 30, 40),
    ("IAFormer, iagraph", "IAFormer, plain PyG", 5, 5),
    ("IAFormer, iagraph", "ParT, weaver", 5, 4),
    ("IAFormer, iagraph", LIMIT, 0.3, 0.4),
    ("IAFormer lite, iagraph", "ParT, weaver", 10, 10),
    ("IAFormer lite, iagraph", "IAFormer, iagraph", 2, 2),
    ("ParT, iagraph", "ParT, weaver", 2, 2),
    ("ParticleNet, iagraph", "ParticleNet, weaver", 5, 5),
)
"""Target speed-ups of one contender over another, in training and in inference."""

MEMORY_TARGET = ("IAFormer, iagraph", "IAFormer, reference layout", 1 / 10)


def benchmark_models(batches: int, batch_size: int, device: str = "cpu") -> Report:
    """Time training steps and inference of all contenders in turn, with different jets of the sample in each round.

    Args:
        batches: number of rounds, each with its own batch; one more batch is for warming up.
        batch_size: jets per batch.
        device: where to compute, cpu or cuda.

    Raises:
        ImportError: weaver-core is not installed.
        ValueError: the device does not exist.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(f"device {device}: should be cpu, or cuda on a machine with an NVIDIA GPU")
    jets = shuffled_jets((batches + 1) * batch_size)
    parts = [jets.part(begin, begin + batch_size) for begin in range(0, len(jets), batch_size)]
    runners = {name: Remote(name, device) for name in CONTENDERS}
    progress = tqdm(desc="memory", total=len(CONTENDERS) * (len(MODES) + len(parts)))
    memory = {}
    for name, mode in product(CONTENDERS, MODES):
        memory[name, mode] = in_new_process(peak_memory, name, mode, parts[0], device)[0]
        progress.update()
    progress.set_description("speed")
    warm_up, *rounds = [JetDataset(part)[:] for part in parts]
    logits = {name: runner.logits(warm_up) for name, runner in runners.items()}
    slow = set()
    for name, runner in runners.items():
        if runner.seconds("training", warm_up) > SLOW_STEP:
            slow.add(name)
        progress.update()
    seconds: Seconds = {(name, mode): [] for name in (*CONTENDERS, LIMIT) for mode in MODES}
    rates = []
    for number, batch in enumerate(rounds):
        rates.append(product_rate(device))
        for name, runner in runners.items():
            for mode in MODES if number < ROUNDS_OF_SLOW or name not in slow else ():
                seconds[name, mode].append(runner.seconds(mode, batch))
            progress.update()
    progress.close()
    rate = statistics.median(rates)
    for batch in rounds:
        for mode, count in zip(MODES, multiply_adds(iaformer(), batch), strict=True):
            seconds[LIMIT, mode].append(2 * count / rate)
    speed = {key: batch_size / statistics.median(values) for key, values in seconds.items()}

    report = Report(f"Training steps and inference, batches of {batch_size} jets, {device}")
    for name in (*CONTENDERS, LIMIT):
        own = f"{name.partition(',')[0]}, iagraph"
        differs = "-" if name in (own, LIMIT) else float((logits[name] - logits[own]).abs().max())
        row: dict[str, Any] = {"implementation": name}
        row |= {f"{mode} [jets/s]": speed[name, mode] for mode in MODES}
        row |= {f"{mode} peak [MB]": memory.get((name, mode), "-") for mode in MODES}
        row |= {"logits differ by": differs, "rounds": len(seconds[name, "training"])}
        row |= {f"iagraph / it, {mode}": "-" if name == own else ratio(seconds, own, name, mode) for mode in MODES}
        report.rows.append(row)
    report.notes = [*target_notes(seconds, memory), *_notes(jets, rate, device)]
    return report


class Remote:
    """A contender in its own process, so that memory and allocator state of the others do not affect its times.

    Args:
        name: a key of :data:`~benchmark.contenders.CONTENDERS`.
        device: where it computes.

    Raises:
        ImportError: weaver-core is not installed.
    """

    def __init__(self, name: str, device: str) -> None:
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self._process.submit(_start, name, device).result()

    def logits(self, jets: JetBatch) -> Tensor:
        """As :meth:`Runner.logits`."""
        return self._process.submit(_logits, jets).result()

    def seconds(self, mode: str, jets: JetBatch) -> float:
        """As :meth:`Runner.seconds`."""
        return self._process.submit(_seconds_of, mode, jets).result()


_runner: list[Runner] = []
"""The contender of this process."""


def _start(name: str, device: str) -> None:
    tune_memory()  # ours and others' alike
    _runner.append(Runner(name, device))


def _logits(jets: JetBatch) -> Tensor:
    return _runner[-1].logits(jets).cpu()


def _seconds_of(mode: str, jets: JetBatch) -> float:
    return _runner[-1].seconds(mode, jets)


class Runner:
    """A contender on a device.

    Args:
        name: a key of :data:`~benchmark.contenders.CONTENDERS`.
        device: its device.
    """

    def __init__(self, name: str, device: str) -> None:
        contender = CONTENDERS[name]()
        self.model, self.prepare = contender.model.to(device), contender.prepare
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.device = device

    def logits(self, jets: JetBatch) -> Tensor:
        """Logits in evaluation mode."""
        inputs = self._inputs(jets)
        self.model.eval()
        with torch.inference_mode():
            return self.model(*inputs)

    def ready(self, mode: str, jets: JetBatch) -> Callable[[], None]:
        """A function that runs a training step, or inference, on prepared inputs."""
        inputs, label = self._inputs(jets), cast(Tensor, jets.y).to(self.device)
        self.model.train(mode == "training")

        def training() -> None:
            self.optimizer.zero_grad()
            cross_entropy(self.model(*inputs), label).backward()
            self.optimizer.step()

        @torch.inference_mode()
        def inference() -> None:
            self.model(*inputs)

        return training if mode == "training" else inference

    def seconds(self, mode: str, jets: JetBatch) -> float:
        """Median time of consecutive training steps or inferences on the same jets, after one for warming up: as many
        as fit into :data:`IN_A_ROW` seconds, at least one.
        """
        run = self.ready(mode, jets)
        run()
        times = [_seconds(run, self.device)]
        while sum(times) < IN_A_ROW:
            times.append(_seconds(run, self.device))
        return statistics.median(times)

    def _inputs(self, jets: JetBatch) -> tuple[Any, ...]:
        # A new batch even on the same device, without cached quantities of an earlier run.
        return tuple(part.to(self.device) for part in self.prepare(jets))


def shuffled_jets(number: int) -> Jets:
    """Quark and gluon jets of the sample in a fixed random order; jets with more particles than padded layouts have
    slots keep only the hardest.
    """
    sample = read_store(resolve("sample:qg"))
    order = np.random.default_rng(1).permutation(len(sample))
    return JetDataset(sample.take(np.resize(order, number)), SLOTS).jets


def peak_memory(name: str, mode: str, jets: Jets, device: str) -> float:
    """Peak memory in MB of a contender's first steps, above that of the process before them.

    On a CPU it includes what libraries allocate on first use; on a GPU it is that of tensors only.
    """
    run = Runner(name, device).ready(mode, JetDataset(jets)[:])

    def steps() -> None:
        for _ in range(MEMORY_STEPS):
            run()

    if device == "cpu":
        return PeakMemory().of(steps)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    steps()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def product_rate(device: str) -> float:
    """FLOP per second of a large matrix product in float32, two per multiply-add."""
    first, second = torch.rand(2, PRODUCT, PRODUCT, device=device)
    first @ second
    return 2 * PRODUCT**3 / statistics.median(_seconds(lambda: first @ second, device) for _ in range(5))


def ratio(seconds: Seconds, own: str, other: str, mode: str) -> float:
    """Speed-up of one contender over another: median over the rounds in which both run."""
    both = zip(seconds[own, mode], seconds[other, mode], strict=False)
    return statistics.median(theirs / ours for ours, theirs in both)


def target_notes(seconds: Seconds, memory: dict[tuple[str, str], float]) -> list[str]:
    """A line per target with the measured and the target value."""
    lines = []
    for own, other, *wanted in TARGETS:
        found = [ratio(seconds, own, other, mode) for mode in MODES]
        unit, scale = ("%", 100) if other == LIMIT else ("x", 1)
        lines.append(_target(f"speed of {own}, against {other}", found, wanted, unit, scale, at_least=True))
    own, other, share = MEMORY_TARGET
    found = [memory[own, mode] / memory[other, mode] for mode in MODES]
    return [*lines, _target(f"memory of {own}, against {other}", found, [share] * 2, "%", 100, at_least=False)]


def _target(
    what: str, found: Sequence[float], wanted: Sequence[float], unit: str, scale: float, *, at_least: bool
) -> str:
    parts = []
    for mode, value, goal in zip(MODES, found, wanted, strict=True):
        reached = value >= goal if at_least else value <= goal
        bound = f"{'at least' if at_least else 'at most'} {goal * scale:g}{unit}"
        parts.append(f"{mode} {value * scale:.3g}{unit} ({bound}: {'reached' if reached else 'missed'})")
    return f"target, {what}: {', '.join(parts)}"


def _notes(jets: Jets, rate: float, device: str) -> list[str]:
    shares = [f"{np.mean(jets.label == label):.0%} {name}" for label, name in enumerate(jets.classes)]
    return [
        f"{len(jets):,} jets of the sample, shuffled: {', '.join(shares)}, {jets.counts.mean():.1f} particles on "
        f"average, {jets.counts.max()} at most; node features kinpid, pair features iaformer (IAFormer) and part "
        "(ParT); float32",
        "speed: jets per batch over the median time of the rounds; implementations take turns, each in its own process "
        f"and with a new batch in each round, run once for warming up and then for {IN_A_ROW:g} s (at least once), of "
        f"which the median counts; implementations with training steps above {SLOW_STEP:g} s run only in the first "
        f"{ROUNDS_OF_SLOW} rounds; ratios: median over the rounds in which both run",
        "training: zero_grad, forward, cross entropy, backward, AdamW; inference: evaluation mode, "
        "torch.inference_mode",
        "iagraph starts from four-momenta; the others get precomputed node features (IAFormer also pair features); "
        f"padding is to {SLOTS} slots, which weaver trims to the longest jet, in training to a random quantile",
        f"peak memory: of the first {MEMORY_STEPS} steps in a new process, above its memory before them; "
        + ("repeats differ by tens of MB because of the allocator" if device == "cpu" else "only tensors on the GPU"),
        f"{LIMIT}: its unavoidable multiply-adds at the {rate / 1e9:,.0f} GFLOP/s of a product of two "
        f"{PRODUCT} x {PRODUCT} matrices in the same run",
        "logits: same untrained weights, same jets; in float32 weaver's pair masses of collinear particles are "
        "dominated by rounding, which changes ParT's logits; in float64 they agree (tests/models/test_weaver.py)",
    ]


def _seconds(run: Callable[[], object], device: str) -> float:
    """Time until a run has finished, also on a GPU."""
    _synchronize(device)
    start = time.perf_counter()
    run()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)
