"""Configuration of a training run: every key with its type, bounds, default and meaning.

A file holds the sections ``data``, ``model`` and ``train``, and optionally ``fine_tune``, to train from given weights,
and ``distill``, to imitate another model; any key can be overridden on the command line with ``section.key=value``.
Most keys that shape the result have no default, so that recipes state them. Values are not converted: a quoted number
is an error.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from iagraph.files import user_files
from iagraph.metrics import DEFAULT_EFFICIENCY
from iagraph.train.model_config import ModelConfig, PositiveInt
from iagraph.train.schedules import Shape
from iagraph.views import JetView, Masses
from iagraph.yaml_config import Section, describe, dump_yaml, flat, load_model

__all__ = ["Config", "load_config"]

PositiveFloat = Annotated[float, Field(gt=0)]
Efficiency = Annotated[float, Field(gt=0, le=1)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _matched(names: list[str]) -> list[str]:
    try:
        return user_files(names)
    except FileNotFoundError as error:
        raise ValueError(f"matches no files: {error}") from error


Files = Annotated[
    list[Annotated[str, Field(min_length=1)]], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_matched)
]


def _not_in_head(name: str) -> str:
    if name.partition(".")[0] == "head":
        raise ValueError("should not name the head, which fine-tuning trains")
    return name


ModuleName = Annotated[str, Field(min_length=1), AfterValidator(_not_in_head)]


def _each(value: Any) -> Any:
    is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return {name: [name] for name in value} if is_names else value


Classes = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[list[str], Field(min_length=1)]],
    BeforeValidator(_each),
    Field(min_length=1),
]


class DataConfig(Section):
    """Jets, and what the network sees of them."""

    train: Files = Field(
        description="Store files for training, or patterns such as `~/jets/*.h5`; `sample:qg` is the sample bundled "
        "with the package."
    )
    val: Files = Field(description="Store files for early stopping and checkpoint selection.")
    test: Files = Field(description="Store files for the final metrics, used once.")
    node_features: Literal["kin", "kinpid", "full", "iaformer"] = Field(
        description="Particle features: kinematics; plus charge and particle type; plus impact parameters "
        "(JetClass); or the paper's."
    )
    pair_features: Literal["invariant", "iaformer", "part"] | None = Field(
        default=None,
        description="Pair features: boost-invariant, the paper's six, or ParT's four; null for networks without pair "
        "features (plain_transformer, learned_pair_iaformer, particlenet), optional for particle_transformer.",
    )
    classes: Classes | None = Field(
        default=None,
        description="Classes to distinguish, if not all of those in the files: a list of names, or a mapping of new "
        "names to lists of merged classes, as in `{background: [QCD, Zqq], top: [Tbqq, Tbl]}`; jets of other "
        "classes are dropped. null: all.",
    )
    signal: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Name of the signal class, for example `quark`; required for two classes. With more, null: the "
        "first class of the file is the background, every other one a signal.",
    )
    signal_efficiency: dict[str, Efficiency] = Field(
        default={},
        description="With more than two classes, signal efficiency at which to quote the background rejection, by "
        f"class name; {DEFAULT_EFFICIENCY} for classes not named.",
    )
    batch_size: PositiveInt = Field(description="Jets per batch.")
    workers: int = Field(
        default=0, ge=0, description="Worker processes that read batches; 0 reads in the main process."
    )
    max_particles: PositiveInt | None = Field(
        default=None, description="Keep at most this many particles of highest pT per jet; null keeps all."
    )
    masses: Masses = Field(
        default="stored",
        description="`zero` treats particles as massless, with their pT, rapidity and azimuth, as published results on "
        "quark-gluon and top jets do; `stored` uses the masses in the file, which, if true, reveal the species.",
    )
    max_pairs: PositiveInt | None = Field(
        default=None,
        description="Maximum number of pairs per batch, n (n + 1) / 2 for a jet of n particles: bounds memory by "
        "putting fewer jets in a batch; a jet with more pairs is a batch of its own; null sets no limit.",
    )
    max_jets: PositiveInt | None = Field(default=None, description="Use only this many training jets; null uses all.")
    weights: bool = Field(
        default=False,
        description="Use the weights of jets in the store, in losses, metrics and their errors.",
    )
    in_memory: bool = Field(
        default=True,
        description="Read all jets before training; false streams them from their files. Jets common to two roles are "
        "then detected only if both roles name the same part of a file.",
    )

    @property
    def view(self) -> JetView:
        """The network's view of jets, part of the trained model."""
        return JetView(self.max_particles, self.masses)

    @model_validator(mode="after")
    def _choice_in_memory(self) -> "DataConfig":
        if self.max_jets is not None and not self.in_memory:
            raise ValueError("max_jets selects jets in memory: set in_memory to true, or max_jets to null")
        return self


class FineTuneConfig(Section):
    """Initial weights."""

    weights: str = Field(
        min_length=1,
        description="Weights of the same network: a run folder, its `model.pt`, a model of the package "
        "(`pretrained:qg`), or a checkpoint of weaver-core. "
        "A run records its training jets, which validation and test must not contain; other files do not.",
    )
    new_head: bool = Field(description="Replace the head with a new one, for other classes.")
    head_learning_rate: PositiveFloat | None = Field(
        default=None,
        description="Peak learning rate of the head, on the schedule of all other weights; null: "
        "`train.learning_rate`.",
    )
    frozen: list[ModuleName] = Field(
        default=[],
        description="Modules and parameters to freeze, by name: `particle_norm`, `convs.0`. Their weights and norm "
        "statistics stay fixed, and their dropout is off.",
    )


class DistillConfig(Section):
    """A teacher, whose probabilities the network learns."""

    teacher: str = Field(
        min_length=1,
        description="A run folder, or a model of the package (`pretrained:qg`), with the same classes. It sees each "
        "training jet once, before the training. Validation and test must not contain its own training jets.",
    )
    weight: float = Field(
        gt=0, le=1, description="Share of the teacher's probabilities in the targets; the rest is the label."
    )


class TrainConfig(Section):
    """Optimisation and hardware."""

    epochs: PositiveInt = Field(
        description="Maximum number of epochs; by default, each is a pass over the training jets."
    )
    jets_per_epoch: PositiveInt | None = Field(
        default=None,
        description="Training jets per epoch; each epoch ends with validation, checkpoint, early stopping and log, "
        "and the next one continues with the next jets. null: all.",
    )
    learning_rate: PositiveFloat = Field(description="Peak learning rate of AdamW.")
    min_learning_rate: float = Field(ge=0, description="Learning rate at the end of the cosine.")
    warmup: float = Field(
        ge=0, lt=1, description="Fraction of the training over which the rate rises linearly, before the cosine."
    )
    weight_decay: float = Field(ge=0, description="Decoupled weight decay of AdamW.")
    patience: PositiveInt = Field(description="Stop after this many epochs without a lower validation loss.")
    tighten: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Fraction of the training over which gates and pruning rules tighten from no to full pruning; "
        "validation and test always prune fully.",
    )
    tighten_shape: Shape = Field(
        default="linear", description="How they tighten, if they do: linearly, along a cosine, or in four steps."
    )
    accumulate: PositiveInt = Field(default=1, description="Batches whose gradients are accumulated per step.")
    clip: PositiveFloat | None = Field(description="Norm to which larger gradients are clipped; null: no clipping.")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Validate, save and test an exponential moving average of the weights with this decay per step "
        "(lower in the first steps); null: the weights themselves.",
    )
    class_weights: dict[str, PositiveFloat] = Field(
        default={},
        description="Factors of the loss by class name, for example `{top: 5.0}`; 1 for classes not named. Metrics "
        "ignore them.",
    )
    keep_every: PositiveInt | None = Field(
        default=None,
        description="Keep the weights every so many epochs, for `iagraph study sparsity`; null: only the best.",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        default="32-true", description="Arithmetic: single precision, or mixed precision with a 16-bit format."
    )
    compile: bool = Field(
        default=False,
        description="Train by `torch.compile` (on CUDA GPUs with CUDA graphs): compiles for up to minutes, then is "
        "faster if jets fill their slots, whose number follows from the largest jet of a batch: see "
        "`data.max_particles`. Weights are interchangeable with those of other runs.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="Kind of device to train on.")
    devices: PositiveInt = Field(
        default=1,
        description="Devices per machine, with one process each; a step takes `data.batch_size` jets from each.",
    )
    machines: PositiveInt = Field(
        default=1, description="Number of machines; torchrun or Slurm starts their processes."
    )

    @field_validator("min_learning_rate")
    @classmethod
    def _below_the_highest(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("learning_rate", value):
            raise ValueError(f"should not exceed the learning rate {info.data['learning_rate']}")
        return value


class Config(Section):
    """A training run."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the run: letters, digits, `-`, `_`, `.`."
    )
    seed: int = Field(default=1, ge=0, le=2**32 - 1, description="Seed of initial weights and order of jets.")
    data: DataConfig = Field(description="Jets, and what the network sees of them.")
    model: ModelConfig = Field(description="The network; keys depend on its name.")
    fine_tune: FineTuneConfig | None = Field(default=None, description="Initial weights; null: random.")
    distill: DistillConfig | None = Field(default=None, description="A teacher; null: learn from labels alone.")
    train: TrainConfig = Field(description="Optimisation and hardware.")
    output: str = Field(default="runs", min_length=1, description="Folder for numbered run folders.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        given, name = self.data.pair_features, self.model.name
        if self.train.tighten and not self.model.drops_edges:
            raise ValueError(
                f"'train.tighten' should be 0: 'model.name' {name} has no gate, and 'model.pruning' sets no rule"
            )
        if self.distill is not None and not self.data.in_memory:
            raise ValueError("'data.in_memory' should be true with 'distill': the teacher sees all training jets first")
        if self.train.compile and self.train.tighten:
            raise ValueError(
                f"'train.tighten' should be 0 with 'train.compile', found {self.train.tighten}: each step would have "
                "to be compiled anew"
            )
        if self.model.needs_pairs and given is None:
            raise ValueError(
                "'data.pair_features' should be 'invariant', 'iaformer' or 'part': "
                f"'model.name' {name} needs pair features"
            )
        if given is not None and not self.model.takes_pairs:
            raise ValueError(
                f"'data.pair_features' should be null: 'model.name' {name} takes no pair features, found \"{given}\""
            )
        return self


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration from a YAML file, with overrides such as ``train.epochs=3``.

    Raises:
        ConfigError: the configuration is invalid; lists every problem, one per line.
    """
    return load_model(Config, path, overrides, extends=True)


def dump_config(config: Config) -> str:
    """YAML with every key, including defaults; it loads to an equal configuration."""
    return dump_yaml(config.model_dump())


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """Keys in which two configurations differ, with both values; None for a missing key."""
    first, second = (dict(flat(config.model_dump())) for config in (one, other))
    values = {key: (first.get(key), second.get(key)) for key in {**first, **second}}
    return {key: pair for key, pair in values.items() if pair[0] != pair[1]}


PATHS = ("output", "fine_tune.weights", "distill.teacher", "data.train", "data.val", "data.test")
"""Keys of files and folders. They may be moved: whoever compares runs compares their content."""


def changed(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The :func:`differences` of two configurations, except for paths."""
    return {key: pair for key, pair in differences(one, other).items() if key not in PATHS}


def describe_config() -> str:
    """Help text: all keys with type, default and meaning."""
    extends = "extends: str, in files only\n    A recipe that gives the keys missing here, for example `qg_lite`."
    return f"{extends}\n{describe(Config)}"
