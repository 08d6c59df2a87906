"""Progress of a training where no progress bar can be drawn, as in a log file."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer


class EpochLines(Callback):
    """Prints one line per epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print losses and validation AUC."""
        if trainer.is_global_zero:
            values = trainer.callback_metrics
            known = [
                f"{name} {float(values[name]):.4f}" for name in ("train_loss", "val_loss", "val_auc") if name in values
            ]
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(known)}", flush=True)
