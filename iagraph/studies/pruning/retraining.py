"""Continued training with pruning rules; each run has its own folder, which a restarted study reuses.

The model is also trained further without a rule, to separate the effect of a rule from that of more epochs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from iagraph.models.attention_tagger import AttentionTagger
from iagraph.studies.compare.config import PlannedRun
from iagraph.studies.pruning.rules import UNPRUNED, PlannedRule, prunable, retrained
from iagraph.studies.training import auc_text, is_finished, train_runs
from iagraph.train.config import Config, FineTuneConfig
from iagraph.train.datamodule import ROLES, fingerprints, open_role
from iagraph.train.folder import RunError, load_run
from iagraph.train.model_config import SECTIONS, PruningConfig

SLOWER = 0.1
"""Learning rate of continued training, as a fraction of that of the run."""


def plan_retraining(
    run: Path, config: Config, rules: Sequence[PlannedRule], epochs: int, folder: Path
) -> dict[PlannedRule | None, PlannedRun]:
    """Plan a run for each rule and one without (None), from the weights of a run, at a tenth of its learning rate.

    Args:
        run: folder of the run.
        config: its configuration.
        rules: the rules, which must apply after the softmax and to all heads alike, as in configurations.
        epochs: number of epochs of each.
        folder: parent of the run folders.

    Raises:
        RunError: the model cannot be trained with rules, or not with these.
    """
    model = config.model
    if not hasattr(model, "pruning"):
        names = ", ".join(name for name, section in SECTIONS.items() if "pruning" in section.model_fields)
        raise RunError(f"{run}: {model.name} cannot be trained with rules; use a run of {names}")
    if any(rule.rule.per_head or rule.rule.renormalize for rule in rules):
        raise RunError("training takes only rules for all heads, after the softmax: omit --per-head and --renormalize")
    if any(rule.strength == 0 for rule in rules):
        raise RunError("threshold=0 drops nothing, so there is nothing to train: omit it")
    tune = FineTuneConfig(weights=str(run.resolve()), new_head=False)
    rates = {key: SLOWER * getattr(config.train, key) for key in ("learning_rate", "min_learning_rate")}
    train = config.train.model_copy(update={"epochs": epochs, "tighten": 0.0, **rates})
    plans = {}
    for rule in (None, *rules):
        pruning = None if rule is None else PruningConfig.model_validate({"rule": rule.name, "strength": rule.strength})
        name = re.sub("[^A-Za-z0-9_.-]", "-", f"{rule or UNPRUNED}-epochs-{epochs}")
        changes = {"name": name, "output": str(folder), "fine_tune": tune, "distill": None, "train": train}
        changes["model"] = model.model_copy(update={"pruning": pruning})
        plans[rule] = PlannedRun(retrained(str(rule or UNPRUNED)), config.model_copy(update=changes), folder / name)
    return plans


def retrain(plans: dict[PlannedRule | None, PlannedRun]) -> dict[PlannedRule | None, AttentionTagger]:
    """The retrained models; trains those not finished before, and prints a line about each.

    Raises:
        RunError: a run failed, or a finished one differs from the plan.
        StoreError: the jets are missing or damaged.
    """
    missing = []
    for run in plans.values():
        data = run.config.data
        prints = {role: fingerprints(getattr(data, role), open_role(getattr(data, role), role, data)) for role in ROLES}
        if is_finished(run, prints, "use another folder for the study (--out), or delete this one"):
            print(f"{run}: {auc_text(run.folder)} (finished before)", flush=True)
        else:
            missing.append(run)
    train_runs(missing, jobs=1)
    return {rule: prunable(load_run(run.folder), run.folder) for rule, run in plans.items()}
