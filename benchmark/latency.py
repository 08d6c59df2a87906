"""Time per jet of exported models in onnxruntime, compared with weaver-core's own exports and with PyTorch."""

from __future__ import annotations

import io
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmark import contenders
from benchmark.measure import Report
from benchmark.models import shuffled_jets
from benchmark.weaver_networks import weaver_inputs, with_weights
from iagraph.data import JetDataset
from iagraph.export.inputs import OUTPUTS, input_names, slots_of
from iagraph.export.tracing import in_onnx, traced
from iagraph.jets import JetBatch
from iagraph.models import ParticleNet, ParticleTransformer

SIZES = (1, 8, 64, 512)
THREADS = (1, 2)
JETS_OF_ROUND = 16
"""Minimum number of jets per round, so that small batches are repeated."""

LARGE = 64
"""Largest batch size with onnxruntime's memory arena; above it, the arenas of all networks would not fit."""

WEAVER_OPSET = 15
WEAVER_INPUTS = ("points", "features", "vectors", "mask")
WEAVER_FEATURES, CLASSES = 13, 2
FEWEST_SLOTS = 17
"""Minimum number of slots for weaver's ParticleNet: one more than its 16 neighbours per particle."""

COMPARED = (
    ("IAFormer, iagraph", "ParT, weaver"),
    ("IAFormer lite, iagraph", "ParT, weaver"),
    ("ParT, iagraph", "ParT, weaver"),
    ("ParticleNet, iagraph", "ParticleNet, weaver"),
)
"""Pairs of networks to compare."""

IN_ONNX, IN_PYTORCH = "onnxruntime", "PyTorch"


class Engine(NamedTuple):
    """An implementation of a network.

    Attributes:
        prepare: makes inputs from jets; not timed.
        run: function from inputs to probabilities.
    """

    prepare: Callable[[JetBatch], Any]
    run: Callable[[Any], Tensor]


def benchmark_latency(rounds: int, sizes: Sequence[int] = SIZES, threads: Sequence[int] = THREADS) -> Report:
    """Time networks of :mod:`benchmark.contenders` in batches of several sizes.

    Args:
        rounds: number of timed rounds, each on different jets; one more is for warming up.
        sizes: jets per batch.
        threads: numbers of threads.

    Raises:
        ImportError: the packages for ONNX or weaver-core are not installed.
    """
    files = exported_networks()
    report, in_use = Report("Time per jet of exported models"), torch.get_num_threads()
    try:
        for number in threads:
            torch.set_num_threads(number)
            report.rows += _rows(files, number, rounds, sizes)
    finally:
        torch.set_num_threads(in_use)
    report.notes = [*_ratios(report.rows, sizes), *_notes(rounds, sizes)]
    return report


def exported_networks() -> dict[str, bytes]:
    """ONNX files of all networks by name of the contender.

    Raises:
        ImportError: the packages for ONNX or weaver-core are not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"running exported models needs {error.name}: pip install 'iagraph[export]'") from error
    part, net = contenders.particle_transformer().eval(), contenders.particle_net().eval()
    ours = {
        "IAFormer, iagraph": contenders.iaformer().eval(),
        "IAFormer lite, iagraph": contenders.lite().eval(),
        "ParT, iagraph": part,
        "ParticleNet, iagraph": net,
    }
    files = {name: in_onnx(traced(model), input_names(model)).SerializeToString() for name, model in ours.items()}
    return files | {"ParT, weaver": _weaver_in_onnx(part), "ParticleNet, weaver": _weaver_in_onnx(net)}


def _weaver_in_onnx(model: ParticleTransformer | ParticleNet) -> bytes:
    """Weaver's network with our weights, as ``weaver --export-onnx`` writes it."""
    make: Any = contenders.WeaverParticleNet
    if isinstance(model, ParticleTransformer):
        make = contenders.WeaverParticleTransformer
    network = with_weights(make(WEAVER_FEATURES, CLASSES, for_inference=True), model).eval()
    jets, buffer = JetDataset(shuffled_jets(2))[:], io.BytesIO()
    with warnings.catch_warnings():  # weaver uses the older exporter, which warns a lot
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            weaver_inputs(model, jets, contenders.SLOTS),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            input_names=WEAVER_INPUTS,
            output_names=OUTPUTS[:1],
            dynamic_axes={name: {0: "N", 2: "n_pf"} for name in WEAVER_INPUTS},
            opset_version=WEAVER_OPSET,
        )
    return buffer.getvalue()


def engines(files: dict[str, bytes], threads: int, arena: bool = True) -> dict[tuple[str, str], Engine]:
    """All implementations of all networks, by name of the contender and runtime.

    Args:
        files: from :func:`exported_networks`.
        threads: number of threads of onnxruntime; PyTorch has its own setting.
        arena: let onnxruntime keep the memory that it has allocated, as it does by default.
    """
    result, part = {}, contenders.particle_transformer()  # computes the features for both of weaver's networks
    for name, file in files.items():
        contender = contenders.CONTENDERS[name]()
        model = contender.model.eval()
        prepare = _weaver_arrays(part) if name.endswith("weaver") else _arrays(input_names(model))
        result[name, IN_ONNX] = Engine(prepare, _session(file, threads, arena))
        result[name, IN_PYTORCH] = Engine(contender.prepare, _eager(model))
    return result


def _session(file: bytes, threads: int, arena: bool) -> Callable[[Any], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.enable_cpu_mem_arena = threads, arena
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    known = [each.name for each in session.get_inputs()]

    def run(arrays: dict[str, Any]) -> Tensor:
        return torch.from_numpy(session.run(OUTPUTS[:1], {name: arrays[name] for name in known})[0])

    return run


def _eager(model: nn.Module) -> Callable[[Any], Tensor]:
    def run(inputs: tuple[Any, ...]) -> Tensor:
        with torch.inference_mode():
            return model(*inputs).softmax(1)

    return run


def _arrays(names: tuple[str, ...]) -> Callable[[JetBatch], dict[str, Any]]:
    return lambda jets: {name: values.numpy() for name, values in slots_of(jets, names).items()}


def _weaver_arrays(model: ParticleTransformer) -> Callable[[JetBatch], dict[str, Any]]:
    def prepare(jets: JetBatch) -> dict[str, Any]:
        tables = weaver_inputs(model, jets, max(int(jets.ptr.diff().max()), FEWEST_SLOTS))
        return {name: table.numpy() for name, table in zip(WEAVER_INPUTS, tables, strict=True)}

    return prepare


def _rows(files: dict[str, bytes], threads: int, rounds: int, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """A row per engine."""
    rows = []
    some, by_key = JetDataset(shuffled_jets(JETS_OF_ROUND))[:], engines(files, threads)
    for (name, where), engine in by_key.items():
        expected = _probabilities(by_key[name, IN_PYTORCH], some, JETS_OF_ROUND)
        row: dict[str, Any] = {"network": name, "computed by": where, "threads": threads}
        for how, size in (("one by one", 1), ("padded", JETS_OF_ROUND)):
            row[f"differs, {how}"] = float((_probabilities(engine, some, size) - expected).abs().max())
        rows.append(row)
    for size in sizes:
        seconds = _seconds(engines(files, threads, arena=size <= LARGE), rounds, size)
        for row in rows:
            row[f"ms/jet, batches of {size}"] = 1e3 * seconds[row["network"], row["computed by"]]
    return rows


def _seconds(by_key: dict[tuple[str, str], Engine], rounds: int, size: int) -> dict[tuple[str, str], float]:
    """Median time per jet of each engine; engines take turns."""
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in by_key}
    of_round = max(size, JETS_OF_ROUND)
    jets = shuffled_jets(of_round * (rounds + 1))
    for begin in range(0, len(jets), of_round):
        batches = [JetDataset(jets.part(at, at + size))[:] for at in range(begin, begin + of_round, size)]
        for key, engine in by_key.items():
            inputs = [engine.prepare(batch) for batch in batches]
            start = time.perf_counter()
            for each in inputs:
                engine.run(each)
            seconds[key].append((time.perf_counter() - start) / of_round)
    return {key: statistics.median(values[1:]) for key, values in seconds.items()}


def _probabilities(engine: Engine, jets: JetBatch, size: int) -> Tensor:
    parts = [jets.part(begin, begin + size) for begin in range(0, len(jets), size)]
    return torch.cat([engine.run(engine.prepare(part)) for part in parts])


def _ratios(rows: Sequence[dict[str, Any]], sizes: Sequence[int]) -> Iterator[str]:
    """Speed-up of our exported networks over weaver's."""
    by_key = {(row["network"], row["computed by"], row["threads"]): row for row in rows}
    for threads in dict.fromkeys(row["threads"] for row in rows):
        for own, other in COMPARED:
            ours, theirs = (by_key[name, IN_ONNX, threads] for name in (own, other))
            factors = [f"{theirs[key] / ours[key]:.2g}x" for key in (f"ms/jet, batches of {size}" for size in sizes)]
            yield f"speed of {own}, against {other}, both in onnxruntime, {threads} thread(s): {', '.join(factors)}"


def _notes(rounds: int, sizes: Sequence[int]) -> list[str]:
    import onnxruntime

    return [
        f"median of {rounds} rounds after one for warming up, networks in turn, each round on different jets of the "
        f"sample; a round has at least {JETS_OF_ROUND} jets, so that small batches are repeated",
        "iagraph: from four-momenta and species to probabilities; weaver's networks get precomputed, scaled features",
        "differs: largest difference of probabilities from those of PyTorch, for jets one by one and for the same jets "
        "in one padded batch",
        f"exported: slots padded to the longest jet of a batch, for weaver at least {FEWEST_SLOTS}; PyTorch: "
        f"iagraph takes ragged jets, weaver {contenders.SLOTS} slots, which it trims to the longest jet",
        f"onnxruntime releases its memory after each batch of more than {LARGE} jets",
        f"weaver's networks: exported as by weaver --export-onnx, with the older exporter, opset {WEAVER_OPSET}; "
        f"onnxruntime {onnxruntime.__version__}; random weights, the same for both",
    ]
