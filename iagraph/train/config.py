"""The configuration of a training run: every key with its type, bounds, default and meaning.

A file holds the sections ``data``, ``model`` and ``train``, and ``fine_tune`` if training starts from given weights;
every key can be changed on the command line with ``section.key=value``. What shapes the result has no default, so that
a recipe states it. Values are not converted: a quoted number is an error, not a number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from iagraph.files import user_files
from iagraph.metrics import DEFAULT_EFFICIENCY
from iagraph.train.model_config import ModelConfig, PositiveInt, Section
from iagraph.views import JetView, Masses
from iagraph.yaml_config import describe, dump_yaml, flat, load_model

PositiveFloat = Annotated[float, Field(gt=0)]
Efficiency = Annotated[float, Field(gt=0, le=1)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _matched(names: list[str]) -> list[str]:
    try:
        return user_files(names)
    except FileNotFoundError as error:
        raise ValueError(f"names no files: {error}") from error


Files = Annotated[
    list[Annotated[str, Field(min_length=1)]], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_matched)
]


def _not_the_head(name: str) -> str:
    if name.partition(".")[0] == "head":
        raise ValueError("should leave the head free: it is what fine-tuning trains")
    return name


ModuleName = Annotated[str, Field(min_length=1), AfterValidator(_not_the_head)]


def _each(value: Any) -> Any:
    return (
        {name: [name] for name in value}
        if isinstance(value, list) and all(isinstance(n, str) for n in value)
        else value
    )


Classes = Annotated[
    dict[Annotated[str, Field(min_length=1)], Annotated[list[str], Field(min_length=1)]],
    BeforeValidator(_each),
    Field(min_length=1),
]


class DataConfig(Section):
    """Which jets, and what the network sees of them."""

    train: Files = Field(
        description="Store files to learn from, or patterns such as `~/jets/*.h5`; `sample:qg` is the sample shipped "
        "with the package."
    )
    val: Files = Field(description="Store files for early stopping and the choice of the checkpoint.")
    test: Files = Field(description="Store files for the final metrics, used once.")
    node_features: Literal["kin", "kinpid", "full", "iaformer"] = Field(
        description="Features of a particle: kinematics, with charge and particle type, with impact parameters as well "
        "(JetClass), or the paper's."
    )
    pair_features: Literal["invariant", "iaformer", "part"] | None = Field(
        default=None,
        description="Features of a pair: boost-invariant ones, the paper's six, or ParT's four; null for networks that "
        "take none (plain_transformer, learned_pair_iaformer, particlenet); a particle_transformer can do without.",
    )
    classes: Classes | None = Field(
        default=None,
        description="Classes to tell apart, where they are not all of the files: a list of names, or a mapping of new "
        "names to lists of what each is made of, as in `{background: [QCD, Zqq], top: [Tbqq, Tbl]}`; jets of others "
        "are left out. null: all.",
    )
    signal: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Name of the signal class, for example `quark`; needed for two classes. With more, null: the first "
        "class of the file is the background, each other one a signal.",
    )
    signal_efficiency: dict[str, Efficiency] = Field(
        default={},
        description="With more than two classes, signal efficiency at which the background rejection of a class is "
        f"quoted, by its name; {DEFAULT_EFFICIENCY} for a class that is not named.",
    )
    batch_size: PositiveInt = Field(description="Jets per batch.")
    workers: int = Field(default=0, ge=0, description="Processes that read batches; 0 reads in the main process.")
    max_particles: PositiveInt | None = Field(
        default=None, description="Keep that many particles of highest pT per jet; null keeps all."
    )
    masses: Masses = Field(
        default="stored",
        description="`zero` takes particles as massless, with their pT, rapidity and azimuth, as published results on "
        "quark-gluon and top jets do; `stored` takes them as they are in the file, where true masses tell species.",
    )
    max_pairs: PositiveInt | None = Field(
        default=None,
        description="Pairs per batch, at most, with n (n + 1) / 2 in a jet of n particles: fewer jets then, but "
        "bounded memory; a jet of more pairs is a batch of its own; null sets no limit.",
    )
    max_jets: PositiveInt | None = Field(default=None, description="Use only that many training jets; null uses all.")
    weights: bool = Field(
        default=False,
        description="Weigh each jet by the weight that its store has for it: in losses, metrics and their errors.",
    )
    in_memory: bool = Field(
        default=True,
        description="Read all jets before training; false reads them from their files as they are needed. Jets that "
        "two roles have in common are then found only where these name the same part of a file.",
    )

    @property
    def view(self) -> JetView:
        """What the network sees of a jet: part of the trained model."""
        return JetView(self.max_particles, self.masses)

    @model_validator(mode="after")
    def _choice_in_memory(self) -> "DataConfig":
        if self.max_jets is not None and not self.in_memory:
            raise ValueError("max_jets chooses among jets in memory: set in_memory to true, or max_jets to null")
        return self


class FineTuneConfig(Section):
    """Weights to start from."""

    weights: str = Field(
        min_length=1,
        description="Weights of the same network: the folder of a run, its `model.pt`, or a checkpoint of weaver-core. "
        "A run tells which jets it was trained on, so that validation and test must be others; other files do not.",
    )
    new_head: bool = Field(description="Train a new head, for classes of your own, in place of the file's.")
    head_learning_rate: PositiveFloat | None = Field(
        default=None,
        description="Highest learning rate of the head, which rises and falls in proportion to that of all else; null: "
        "`train.learning_rate`.",
    )
    frozen: list[ModuleName] = Field(
        default=[],
        description="Modules and parameters that stay as they are, by their names in the network: `particle_norm`, "
        "`convs.0`. They train no weights, keep the statistics of their norms and drop nothing.",
    )


class TrainConfig(Section):
    """How to minimise the loss, and on what machine."""

    epochs: PositiveInt = Field(description="Passes over the training jets, at most.")
    learning_rate: PositiveFloat = Field(description="Highest learning rate of AdamW.")
    min_learning_rate: float = Field(ge=0, description="Learning rate at the end of the cosine.")
    warmup: float = Field(ge=0, lt=1, description="Fraction of the training of linear rise before the cosine.")
    weight_decay: float = Field(ge=0, description="Decoupled weight decay of AdamW.")
    patience: PositiveInt = Field(description="Stop after that many epochs without a lower validation loss.")
    tighten: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Fraction of the training over which gates and pruning rules tighten, from dropping nothing to all "
        "of what they drop; validation and test always drop all of it.",
    )
    accumulate: PositiveInt = Field(default=1, description="Batches whose gradients are added up before a step.")
    clip: PositiveFloat | None = Field(description="Largest norm of the gradient; null does not clip.")
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Validate, keep and test an exponential moving average of the weights, with this decay per step "
        "(lower in the first steps); null: the weights themselves.",
    )
    class_weights: dict[str, PositiveFloat] = Field(
        default={},
        description="Factors of the loss of the jets of a class, by its name, for example `{top: 5.0}`; 1 for a class "
        "that is not named. Metrics do not know of them.",
    )
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        default="32-true", description="Arithmetic: single precision, or mixed with a 16-bit format."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="Kind of device to train on.")
    devices: PositiveInt = Field(
        default=1,
        description="Devices of each machine, with a process each; a step takes `data.batch_size` jets from every one.",
    )
    machines: PositiveInt = Field(default=1, description="Machines, on which torchrun or Slurm starts the processes.")

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
    seed: int = Field(default=1, ge=0, le=2**32 - 1, description="Seed of the weights and of the order of jets.")
    data: DataConfig = Field(description="Which jets, and what the network sees of them.")
    model: ModelConfig = Field(description="The network; its keys depend on its name.")
    fine_tune: FineTuneConfig | None = Field(default=None, description="Weights to start from; null: random ones.")
    train: TrainConfig = Field(description="How to minimise the loss, and on what machine.")
    output: str = Field(default="runs", min_length=1, description="Folder in which run directories are numbered.")

    @model_validator(mode="after")
    def _sections_fit_together(self) -> "Config":
        given, name = self.data.pair_features, self.model.name
        if self.train.tighten and not self.model.drops_edges:
            raise ValueError(
                f"'train.tighten' should be 0: 'model.name' {name} has neither a gate nor, here, a rule "
                "('model.pruning')"
            )
        if self.data.max_pairs is not None and self.train.devices * self.train.machines > 1:
            raise ValueError(
                "'data.max_pairs' should be null with several processes ('train.devices', 'train.machines'), for all "
                "take equally many steps: set a smaller 'data.batch_size'"
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
    """Configuration in a YAML file, after the changes ``key.sub=value``.

    Raises:
        ConfigError: with every problem found, one per line.
    """
    return load_model(Config, path, overrides)


def dump_config(config: Config) -> str:
    """YAML with every key, defaults included; it loads to an equal configuration."""
    return dump_yaml(config.model_dump())


def differences(one: Config, other: Config) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configurations differ, with both values; None where one of them has no such key."""
    first, second = (dict(flat(config.model_dump())) for config in (one, other))
    values = {key: (first.get(key), second.get(key)) for key in {**first, **second}}
    return {key: pair for key, pair in values.items() if pair[0] != pair[1]}


def describe_config() -> str:
    """All keys with type, default and meaning, for ``--help``."""
    return describe(Config)
