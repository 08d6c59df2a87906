"""The Lightning module: loss, optimiser and schedule of a tagger."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from iagraph.jets import JetBatch
from iagraph.metrics import macro_auc, roc_auc
from iagraph.nn import AttentionConv, SoftmaxDifference
from iagraph.nn.pair_gate import Gate
from iagraph.train.compiled import InSlots
from iagraph.train.config import FineTuneConfig, TrainConfig
from iagraph.train.not_finite import first_not_finite, report
from iagraph.train.schedules import Tightening, warmup_cosine


class Tagger(LightningModule):
    """Trains a model, which maps a :class:`JetBatch` to logits, by cross entropy.

    Args:
        model: the model.
        config: optimiser and schedule.
        signal: index of the signal class if there are two classes; None for more.
        jets_per_epoch: training jets per epoch; required for training.
        fine_tune: frozen modules and learning rate of the head in fine-tuning.
        loss_weights: factor of the loss per class, in addition to jet weights; None for an unweighted loss.

    Attributes:
        in_slots: the compiled model that training and validation run; None to run the model itself.

    Raises:
        FloatingPointError: a loss or logit in training, validation or test is not finite.
    """

    loss_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        signal: int | None = None,
        jets_per_epoch: int = 0,
        fine_tune: FineTuneConfig | None = None,
        loss_weights: ArrayLike | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.in_slots: InSlots | None = None
        self.jets_in_all = jets_per_epoch * config.epochs
        self.jets_seen = 0
        self._extended = False
        self.config = config
        self.tightening = Tightening(config.tighten, config.tighten_shape)
        self.head_learning_rate = (fine_tune and fine_tune.head_learning_rate) or config.learning_rate
        self.frozen = tuple(fine_tune.frozen) if fine_tune else ()
        self.signal = signal
        self.train_loss, self.val_loss = MeanLoss(), MeanLoss()
        self.val_auc = ValidationAUC(signal)
        weights = None if loss_weights is None else torch.tensor(loss_weights, dtype=torch.float32)
        self.register_buffer("loss_weights", weights, persistent=False)
        self._timings: list[tuple[int, float]] = []
        self._check_loss: Callable[[], None] = _nothing  # of the step that has begun
        for name, parameter in model.named_parameters():
            if any(f"{name}.".startswith(f"{frozen}.") for frozen in self.frozen):
                parameter.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Put frozen modules into evaluation mode, which fixes norm statistics and disables dropout.

        Lightning preserves modes, also across validation, but warns if they are set before training.
        """
        for name, module in self.model.named_modules():
            if name in self.frozen:
                module.eval()

    def training_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Cross entropy of a batch, which is checked to be finite once its gradients have been asked for."""
        if self.config.tighten:
            set_tightness(self.model, self.tightening.at(self.jets_seen / self.jets_in_all))
        number = self._sum_over_processes(len(jets))
        self.jets_seen += number
        targets = labels_of(jets) if jets.targets is None else jets.targets
        losses = cross_entropy(self._logits(jets), targets, reduction="none")
        weights = self._weights(jets)
        weighted = losses if weights is None else weights * losses
        # Gradients are averaged over processes: this scaling gives the mean over all jets.
        loss = weighted.sum() * (self.trainer.world_size / number)
        self._check_loss = partial(self._check, OnItsWay(loss.isfinite()), batch_index, jets, losses.detach())
        if len(jets):
            self.train_loss.update(losses.detach(), weights)
        self.log("train_loss", loss, prog_bar=True, logger=False, batch_size=len(jets))
        return loss

    def on_after_backward(self) -> None:
        """Check the loss before the step: meanwhile, a GPU works on the gradients."""
        check, self._check_loss = self._check_loss, _nothing  # which lets go of the batch
        check()

    def _check(self, finite: OnItsWay, batch_index: int, jets: JetBatch, losses: Tensor) -> None:
        if not finite:
            with self.trainer.precision_plugin.forward_context():  # the precision of the step
                raise self._not_finite(f"batch {batch_index} of epoch {self.current_epoch + 1}", jets, losses)

    def _logits(self, jets: JetBatch) -> Tensor:
        return self.model(jets) if self.in_slots is None else self.in_slots(jets)

    def _weights(self, jets: JetBatch) -> Tensor | None:
        """Factor of the loss of each jet; None for an unweighted loss."""
        if self.loss_weights is None:
            return None
        of_class = self.loss_weights[labels_of(jets)]
        return of_class if jets.weight is None else of_class * jets.weight

    def _not_finite(self, where: str, jets: JetBatch, losses: Tensor) -> FloatingPointError:
        """The error for a batch with losses or logits that are not finite."""
        folder = Path(self.trainer.default_root_dir) if self.trainer.is_global_zero else None
        return FloatingPointError(
            f"the loss is {losses.mean().item()} in {where} ({report(self.model, jets, losses, folder)}): lower "
            "train.learning_rate, or set train.precision=32-true"
        )

    def _sum_over_processes(self, number: int) -> int:
        """Sum over all training processes."""
        if self.trainer.world_size == 1:
            return number
        return int(self.trainer.strategy.reduce(torch.tensor(number, device=self.device), reduce_op="sum"))

    def on_train_epoch_end(self) -> None:
        """Log the loss of the epoch and the mean beta of each attention layer.

        They go directly to the loggers, since Lightning's own logging comes after the checkpoint.
        """
        values = {"epoch": self.current_epoch, "train_loss": float(self.train_loss.compute())}
        self.train_loss.reset()
        values |= {f"beta/{name}": sum(beta) / len(beta) for name, beta in betas(self.model).items()}
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step - 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the progress of the schedule."""
        checkpoint |= {"jets_seen": self.jets_seen, "jets_in_all": self.jets_in_all}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the progress of the schedule."""
        self.jets_seen = checkpoint["jets_seen"]
        self._extended = checkpoint.get("jets_in_all", self.jets_in_all) != self.jets_in_all

    def on_train_start(self) -> None:
        """Start an extended run at the learning rate of the new schedule."""
        if self._extended:
            schedule: Any = self.lr_schedulers()
            for group, highest in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = highest * self._rate()

    def validation_step(self, jets: JetBatch, batch_index: int) -> None:
        """Loss and AUC, exact over all validation jets; for more than two classes, the macro average (one-vs-rest).

        Logits are checked to be finite: a NaN would be ranked and give a meaningless AUC.
        """
        if not len(jets):  # the last batches of a process may be empty
            return
        logits, labels = self._logits(jets), labels_of(jets)
        losses = cross_entropy(logits, labels, reduction="none")
        if not (logits.isfinite().all() and losses.isfinite().all()):
            when = "before" if self.trainer.sanity_checking else "after"
            where = f"batch {batch_index} of the validation {when} epoch {self.current_epoch + 1}"
            raise self._not_finite(where, jets, losses + 0 * logits.sum(1))  # not finite if a logit is not finite
        self.val_loss.update(losses, self._weights(jets))
        self.log("val_loss", self.val_loss, prog_bar=True, batch_size=len(jets))
        if self.trainer.sanity_checking:
            return  # the first few jets may be of one class only
        weights = torch.ones_like(losses) if jets.weight is None else jets.weight
        self.val_auc.update(logits.float(), labels, weights)
        self.log("val_auc", self.val_auc, prog_bar=True, batch_size=len(jets))

    def predict_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Logits of a batch in float32, timed and checked to be finite."""
        start = _now(self.device)
        logits = self.model(jets).float()
        self._timings.append((len(jets), _now(self.device) - start))
        if not logits.isfinite().all():
            bad = (~logits.isfinite().all(1)).nonzero().squeeze(1).tolist()
            layer = first_not_finite(self.model, jets)
            first = f", first in the output of {layer}" if layer else ""
            raise FloatingPointError(
                f"the logits of {len(bad)} of the {len(jets)} jets of batch {batch_index} (the first: jet {bad[0]}) "
                f"are not finite{first}: inspect these jets, or retrain with a lower train.learning_rate or "
                "train.precision=32-true"
            )
        return logits

    def on_predict_batch_end(self, *_: Any) -> None:
        """Exit after SIGTERM, which Lightning only records."""
        if self.trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)

    def on_predict_start(self) -> None:
        """Reset the timer and record the device, from which Lightning later removes the model."""
        self._timings.clear()
        self.predicted_on = self.device.type

    @property
    def batch_size(self) -> int:
        """Size of the largest batch of the last prediction."""
        return max(jets for jets, _ in self._timings)

    def jets_per_second(self) -> float:
        """Jets per second of the last prediction, excluding the loader and the first batch (warm-up)."""
        timings = self._timings[1:] or self._timings
        return sum(jets for jets, _ in timings) / sum(seconds for _, seconds in timings)

    def configure_optimizers(self) -> Any:
        """AdamW with linear warm-up and cosine decay of the learning rate, updated each step.

        The rate depends on the number of jets seen: with ``max_pairs``, the number of steps is not known in advance.

        Weight decay applies only to matrices: elsewhere it would pull biases and norms to zero, and beta to
        sigmoid(0) = 1/2. A separate learning rate for the head adds two parameter groups with the same schedule.
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
        """Current learning rate, by the number of jets seen, as a fraction of the peak."""
        lowest = self.config.min_learning_rate / self.config.learning_rate
        return warmup_cosine(self.jets_seen / self.jets_in_all, self.config.warmup, lowest)


class MeanLoss(Metric):
    """Weighted mean over all batches and processes; unlike that of torchmetrics, it does not wait for a GPU."""

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, losses: Tensor, weights: Tensor | None = None) -> None:
        """Add the losses of a batch."""
        weights = torch.ones_like(losses) if weights is None else weights
        self.total += (losses * weights).sum()
        self.weight += weights.sum()

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.weight


class ValidationAUC(Metric):
    """AUC of jets, each with a weight, exact over all batches and processes; macro average for more than two classes.

    Args:
        signal: index of the signal class if there are two classes; None for more.

    Raises:
        ValueError: on computing it, there is no jet of a class.
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
        """Add a batch of jets."""
        self.logits.append(logits)
        self.labels.append(labels)
        self.weights.append(weights)

    def compute(self) -> Tensor:
        """AUC of all jets."""
        labels, logits, weights = (
            dim_zero_cat(each).cpu().numpy() for each in (self.labels, self.logits, self.weights)
        )
        if self.signal is None:
            value, _ = macro_auc(labels, logits, weights)
        else:
            value, _ = roc_auc(labels, logits, self.signal, weights)
        return torch.tensor(value, device=self.device)


class OnItsWay:
    """A truth value that a device sends to the host, which waits for it only when asked."""

    def __init__(self, value: Tensor) -> None:
        self.value = value.to("cpu", non_blocking=value.is_cuda)
        self.sent = torch.cuda.Event() if value.is_cuda else None
        if self.sent is not None:
            self.sent.record()

    def __bool__(self) -> bool:
        if self.sent is not None:
            self.sent.synchronize()
        return bool(self.value)


def _nothing() -> None:
    """No check."""


def _now(device: torch.device) -> float:
    """The time, after waiting for the device to finish its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def betas(model: nn.Module) -> dict[str, list[float]]:
    """Learned beta of each differential attention layer, one number per layer or head."""
    convs = {name: layer for name, layer in model.named_modules() if isinstance(layer, SoftmaxDifference)}
    return {name: conv.beta.tolist() for name, conv in convs.items()}


def set_tightness(model: nn.Module, tightness: float) -> None:
    """Set the pruning strength of gates and rules in training mode, from 0 (none) to 1 (full)."""
    for module in model.modules():
        if isinstance(module, AttentionConv | Gate):
            module.tightness = tightness


def labels_of(jets: JetBatch) -> Tensor:
    """Labels of a batch.

    Raises:
        ValueError: the batch has none.
    """
    if jets.y is None:
        raise ValueError("these jets have no labels, which training and validation require")
    return jets.y
