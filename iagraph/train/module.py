"""The Lightning module: loss, optimiser and schedule of any tagger."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryAUROC

from iagraph.graphs import JetBatch
from iagraph.train.config import TrainConfig


class Tagger(LightningModule):
    """Trains a model that turns a :class:`JetBatch` into logits, by cross entropy.

    Args:
        model: the model.
        config: optimiser and schedule.
        signal: index of the signal class.

    Raises:
        FloatingPointError: a training loss is not finite.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, signal: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.signal = signal
        self.val_loss = MeanMetric()
        self.val_auc = BinaryAUROC()

    def training_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Cross entropy of a batch, which must be finite."""
        loss = cross_entropy(self.model(jets), labels_of(jets))
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} in batch {batch_index} of epoch {self.current_epoch}: lower "
                "train.learning_rate, or set train.precision=32-true"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(jets))
        return loss

    def validation_step(self, jets: JetBatch, batch_index: int) -> None:
        """Loss and AUC, exact over all validation jets."""
        logits, labels = self.model(jets), labels_of(jets)
        self.val_loss.update(cross_entropy(logits, labels, reduction="none"))
        self.val_auc.update(logits.float().softmax(1)[:, self.signal], labels.eq(self.signal).long())
        self.log("val_loss", self.val_loss, prog_bar=True, batch_size=len(jets))
        self.log("val_auc", self.val_auc, prog_bar=True, batch_size=len(jets))

    def predict_step(self, jets: JetBatch, batch_index: int) -> Tensor:
        """Logits of a batch in float32."""
        return self.model(jets).float()

    def configure_optimizers(self) -> Any:
        """AdamW, with a rate that rises linearly and falls along a cosine, step by step."""
        config, steps = self.config, int(self.trainer.estimated_stepping_batches)
        optimizer = torch.optim.AdamW(self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        lowest = config.min_learning_rate / config.learning_rate
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_cosine(step / steps, config.warmup, lowest)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


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
        warmup: fraction of the steps that the rise takes.
        lowest: where the cosine ends.
    """
    if progress < warmup:
        # The very first step moves, too: a rate of zero would waste it.
        return max(progress / warmup, 0.01)
    angle = math.pi * min((progress - warmup) / (1 - warmup), 1.0)
    return lowest + (1 - lowest) * (1 + math.cos(angle)) / 2
