"""The Lightning module: loss, optimiser and schedule of any tagger."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAUROC, MulticlassAUROC
from torchmetrics.utilities import dim_zero_cat

from iagraph.jets import JetBatch
from iagraph.metrics import macro_auc, roc_auc
from iagraph.nn import AttentionConv, PairGate, SoftmaxDifference
from iagraph.train.config import FineTuneConfig, TrainConfig
from iagraph.train.not_finite import first_not_finite, report


class Tagger(LightningModule):
    """Trains a model that turns a :class:`JetBatch` into logits, by cross entropy.

    Args:
        model: the model.
        config: optimiser and schedule.
        num_classes: number of classes, two or more.
        signal: index of the signal class, for two classes.
        jets_per_epoch: number of training jets; needed to train.
        fine_tune: what of a model with given weights stays frozen, and how fast its head learns.
        loss_weights: by what the loss of a jet of each class is multiplied, besides its own weight; None: by one.

    Raises:
        FloatingPointError: a loss of training or validation is not finite, or a logit of either or of the test.
    """

    val_auc: BinaryAUROC | MulticlassAUROC

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        num_classes: int,
        signal: int | None = None,
        jets_per_epoch: int = 0,
        fine_tune: FineTuneConfig | None = None,
        loss_weights: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.jets_in_all = jets_per_epoch * config.epochs
        self.jets_seen = 0
        self._extended = False
        self.config = config
        self.head_learning_rate = (fine_tune and fine_tune.head_learning_rate) or config.learning_rate
        self.frozen = tuple(fine_tune.frozen) if fine_tune else ()
        self.signal = signal
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.val_auc = BinaryAUROC() if num_classes == 2 else MulticlassAUROC(num_classes, average="macro")
        self.weighted_auc = WeightedAUC(signal)
        self.loss_weights = None if loss_weights is None else torch.tensor(loss_weights, dtype=torch.float32)
        self._timings: list[tuple[int, float]] = []
        for name, parameter in model.named_parameters():
            if any(f"{name}.".startswith(f"{frozen}.") for frozen in self.frozen):
                parameter.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Frozen modules are in evaluation mode: their norms keep their statistics, their dropout drops nothing.

        Lightning leaves modules in their modes, also after a validation, but warns of such before the training.
        """
        for name, module in self.model.named_modules():
            if name in self.frozen:
                module.eval()

    def training_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Cross entropy of a batch, which must be finite."""
        if self.config.tighten:
            set_tightness(self.model, min(self.jets_seen / (self.config.tighten * self.jets_in_all), 1.0))
        number = self._over_processes(len(jets))
        self.jets_seen += number
        losses = cross_entropy(self.model(jets), labels_of(jets), reduction="none")
        weights = self._weights(jets)
        weighted = losses if weights is None else weights * losses
        # The gradients of several processes are averaged: this makes them those of the mean over the jets of all.
        loss = weighted.sum() * (self.trainer.world_size / number)
        if not torch.isfinite(loss):
            raise self._not_finite(f"batch {batch_index} of epoch {self.current_epoch + 1}", jets, losses)
        if len(jets):
            self._update(self.train_loss, losses.detach(), weights)
        self.log("train_loss", loss, prog_bar=True, logger=False, batch_size=len(jets))
        return loss

    def _weights(self, jets: JetBatch) -> Tensor | None:
        """By what the loss of each jet is multiplied; None: by one."""
        if self.loss_weights is None:
            return None
        of_class = self.loss_weights.to(self.device)[labels_of(jets)]
        return of_class if jets.weight is None else of_class * jets.weight

    @staticmethod
    def _update(mean: MeanMetric, losses: Tensor, weights: Tensor | None) -> None:
        """The mean of losses is weighted as they are."""
        if weights is None:
            mean.update(losses)
        else:
            mean.update(losses, weights)

    def _not_finite(self, where: str, jets: JetBatch, losses: Tensor) -> FloatingPointError:
        """What to raise for a batch whose losses or logits are not finite."""
        folder = Path(self.trainer.default_root_dir) if self.trainer.is_global_zero else None
        return FloatingPointError(
            f"the loss is {losses.mean().item()} in {where} ({report(self.model, jets, losses, folder)}): lower "
            "train.learning_rate, or set train.precision=32-true"
        )

    def _over_processes(self, number: int) -> int:
        """The sum over the processes that train together."""
        if self.trainer.world_size == 1:
            return number
        return int(self.trainer.strategy.reduce(torch.tensor(number, device=self.device), reduce_op="sum"))

    def on_train_epoch_end(self) -> None:
        """Logs the loss of the epoch and beta of each attention layer.

        At once: what Lightning is asked to log comes after the state of the training is kept.
        """
        values = {"epoch": self.current_epoch, "train_loss": float(self.train_loss.compute())}
        self.train_loss.reset()
        values |= {f"beta/{name}": sum(beta) / len(beta) for name, beta in betas(self.model).items()}
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step - 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps how far the schedule is."""
        checkpoint |= {"jets_seen": self.jets_seen, "jets_in_all": self.jets_in_all}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it up again."""
        self.jets_seen = checkpoint["jets_seen"]
        self._extended = checkpoint.get("jets_in_all", self.jets_in_all) != self.jets_in_all

    def on_train_start(self) -> None:
        """Of a training that has become longer, the first step has the rate of the new schedule, not of the old one."""
        if self._extended:
            schedule: Any = self.lr_schedulers()
            for group, highest in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = highest * self._rate()

    def validation_step(self, jets: JetBatch, batch_index: int) -> None:
        """Loss and AUC, exact over all validation jets; of more than two classes the macro average of each against all
        others. Both must be finite: a NaN would be ranked, and give an AUC that means nothing.
        """
        if not len(jets):  # the last batch of one of several processes
            return
        logits, labels = self.model(jets), labels_of(jets)
        losses = cross_entropy(logits, labels, reduction="none")
        if not (logits.isfinite().all() and losses.isfinite().all()):
            when = "before" if self.trainer.sanity_checking else "after"
            where = f"batch {batch_index} of the validation {when} epoch {self.current_epoch + 1}"
            raise self._not_finite(where, jets, losses + 0 * logits.sum(1))  # not finite if a logit is not
        self._update(self.val_loss, losses, self._weights(jets))
        self.log("val_loss", self.val_loss, prog_bar=True, batch_size=len(jets))
        if self.trainer.sanity_checking:
            return  # the first few jets may be of one class, which has no AUC
        if jets.weight is not None:
            self.weighted_auc.update(logits.float(), labels, jets.weight)
            self.log("val_auc", self.weighted_auc, prog_bar=True, batch_size=len(jets))
            return
        probabilities = logits.float().softmax(1)
        if self.signal is None:
            self.val_auc.update(probabilities, labels)
        else:
            self.val_auc.update(probabilities[:, self.signal], labels.eq(self.signal).long())
        self.log("val_auc", self.val_auc, prog_bar=True, batch_size=len(jets))

    def predict_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Logits of a batch in float32, which must be finite; takes the time of it."""
        start = _now(self.device)
        logits = self.model(jets).float()
        self._timings.append((len(jets), _now(self.device) - start))
        if not logits.isfinite().all():
            bad = (~logits.isfinite().all(1)).nonzero().squeeze(1).tolist()
            layer = first_not_finite(self.model, jets)
            first = f", first in the output of {layer}" if layer else ""
            raise FloatingPointError(
                f"the logits of {len(bad)} of the {len(jets)} jets of batch {batch_index} (the first: jet {bad[0]}) "
                f"are not finite{first}: look at these jets, or train anew with a lower train.learning_rate or "
                "train.precision=32-true"
            )
        return logits

    def on_predict_batch_end(self, *_: Any) -> None:
        """Ends the process when it is told to (SIGTERM), which Lightning only notes."""
        if self.trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)

    def on_predict_start(self) -> None:
        """Resets the watch, and notes the device: afterwards Lightning moves the model away from it."""
        self._timings.clear()
        self.predicted_on = self.device.type

    @property
    def batch_size(self) -> int:
        """The largest batch of the last prediction."""
        return max(jets for jets, _ in self._timings)

    def jets_per_second(self) -> float:
        """Rate of the last prediction, without the loader and without the first batch, which warms up."""
        timings = self._timings[1:] or self._timings
        return sum(jets for jets, _ in timings) / sum(seconds for _, seconds in timings)

    def configure_optimizers(self) -> Any:
        """AdamW, with a rate that rises linearly and falls along a cosine, step by step.

        The rate follows the jets seen: with a budget of pairs, the number of steps is not known beforehand.

        Matrices alone decay. Decay would draw biases and norms to zero, and every beta to 1/2, which is where the
        sigmoid of zero lies. A head with a rate of its own makes two more groups, under the same schedule.
        """
        config = self.config
        parts: dict[float, list[nn.Parameter]] = {config.learning_rate: [], self.head_learning_rate: []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                rate = self.head_learning_rate if name.startswith("head.") else config.learning_rate
                parts[rate].append(parameter)
        groups = []
        for rate, parameters in parts.items():
            matrices = [parameter for parameter in parameters if parameter.ndim > 1]
            others = [parameter for parameter in parameters if parameter.ndim <= 1]
            groups.append({"params": matrices, "lr": rate, "weight_decay": config.weight_decay})
            groups.append({"params": others, "lr": rate, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: self._rate())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self) -> float:
        """Learning rate after the jets seen, as a fraction of the highest."""
        lowest = self.config.min_learning_rate / self.config.learning_rate
        return warmup_cosine(self.jets_seen / self.jets_in_all, self.config.warmup, lowest)


class WeightedAUC(Metric):
    """AUC of weighted jets, exact over all batches and processes; the macro average of more than two classes.

    Args:
        signal: index of the signal class, for two classes.
    """

    logits: list[Tensor]
    labels: list[Tensor]
    weights: list[Tensor]

    def __init__(self, signal: int | None) -> None:
        super().__init__()
        self.signal = signal
        for name in ("logits", "labels", "weights"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, weights: Tensor) -> None:
        """Adds jets."""
        self.logits.append(logits)
        self.labels.append(labels)
        self.weights.append(weights)

    def compute(self) -> Tensor:
        """The AUC of all jets."""
        labels, logits, weights = (
            dim_zero_cat(each).cpu().numpy() for each in (self.labels, self.logits, self.weights)
        )
        if self.signal is None:
            value, _ = macro_auc(labels, logits, weights)
        else:
            value, _ = roc_auc(labels, logits, self.signal, weights)
        return torch.tensor(value, device=self.device)


def _now(device: torch.device) -> float:
    """The time at which the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def betas(model: nn.Module) -> dict[str, list[float]]:
    """The learned beta of each differential attention layer, one number per layer or per head."""
    convs = {name: layer for name, layer in model.named_modules() if isinstance(layer, SoftmaxDifference)}
    return {name: conv.beta.tolist() for name, conv in convs.items()}


def set_tightness(model: nn.Module, tightness: float) -> None:
    """How much of what they drop its gates and pruning rules drop in training mode, from 0 to 1."""
    for module in model.modules():
        if isinstance(module, AttentionConv | PairGate):
            module.tightness = tightness


def labels_of(jets: JetBatch) -> Tensor:
    """The labels of a batch.

    Raises:
        ValueError: it has none.
    """
    if jets.y is None:
        raise ValueError("these jets have no labels, which training and validation need")
    return jets.y


def warmup_cosine(progress: float, warmup: float, lowest: float) -> float:
    """Learning rate, as a fraction of the highest, at a fraction of the training: linear rise, then half a cosine.

    Args:
        progress: fraction of the steps done, from 0 to 1.
        warmup: fraction of the training that the rise takes.
        lowest: where the cosine ends.
    """
    if progress < warmup:
        # The very first step moves, too: a rate of zero would waste it.
        return max(progress / warmup, 0.01)
    angle = math.pi * min((progress - warmup) / (1 - warmup), 1.0)
    return lowest + (1 - lowest) * (1 + math.cos(angle)) / 2
