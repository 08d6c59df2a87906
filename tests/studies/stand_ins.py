"""What a process does instead of training, in a module that is quickly imported."""

import json
import os
import signal


def train(run, threads, answer):
    """As the model is called: `killed` is, `wild` fails, any other is finished at once."""
    if run.model == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif run.model == "wild":
        answer.send("the loss is nan")
    else:
        run.folder.mkdir(parents=True)
        metrics = json.dumps({"tagger": {"auc": {"value": 0.75}}})
        (run.folder / "metrics.json").write_text(metrics)
