"""Runs trained on with a pruning rule, each in a folder of its own, kept when a study is started again.

The model without a rule is trained on, too: what a training of more epochs brings is no merit of a rule.
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
"""Learning rate of what is trained on, as a fraction of that of the run."""


def plan_retraining(
    run: Path, config: Config, rules: Sequence[PlannedRule], epochs: int, folder: Path
) -> dict[PlannedRule | None, PlannedRun]:
    """A training for each rule and one without (None), from the weights of a run, with a tenth of its learning rate.

    Args:
        run: folder of the run.
        config: its configuration.
        rules: the rules, which act after the softmax and for all heads alike, as configurations have them.
        epochs: of each training.
        folder: where their folders go.

    Raises:
        RunError: the configuration of this model knows no rules, or not these.
    """
    model = config.model
    if not hasattr(model, "pruning"):
        names = ", ".join(name for name, section in SECTIONS.items() if "pruning" in section.model_fields)
        raise RunError(f"{run}: a {model.name} is not trained with rules; there are some that are: {names}")
    if any(rule.rule.per_head or rule.rule.renormalize for rule in rules):
        raise RunError("models are trained with rules that act for all heads, after the softmax: leave out one option")
    if any(rule.strength == 0 for rule in rules):
        raise RunError("threshold=0 drops nothing: leave it out, for there is nothing to train")
    tune = FineTuneConfig(weights=str(run.resolve()), new_head=False)
    rates = {key: SLOWER * getattr(config.train, key) for key in ("learning_rate", "min_learning_rate")}
    train = config.train.model_copy(update={"epochs": epochs, "tighten": 0.0, **rates})
    plans = {}
    for rule in (None, *rules):
        pruning = None if rule is None else PruningConfig.model_validate({"rule": rule.name, "strength": rule.strength})
        name = re.sub("[^A-Za-z0-9_.-]", "-", f"{rule or UNPRUNED}-epochs-{epochs}")
        changes = {"name": name, "output": str(folder), "fine_tune": tune, "train": train}
        changes["model"] = model.model_copy(update={"pruning": pruning})
        plans[rule] = PlannedRun(retrained(str(rule or UNPRUNED)), config.model_copy(update=changes), folder / name)
    return plans


def retrain(plans: dict[PlannedRule | None, PlannedRun]) -> dict[PlannedRule | None, AttentionTagger]:
    """The models, trained where they are not yet; it says a line about each.

    Raises:
        RunError: a training failed, or a finished one is not that which was planned.
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
