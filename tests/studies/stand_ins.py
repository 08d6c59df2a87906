"""A stand-in for training in a process, in a module with fast imports."""

import json
import os
import signal


def train(run, threads, answer):
    """The name of the model decides: `killed` is killed, `wild` fails, any other finishes at once."""
    if run.model == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif run.model == "wild":
        answer.send("the loss is nan")
    else:
        run.folder.mkdir(parents=True)
        metrics = json.dumps({"tagger": {"auc": {"value": 0.75}}})
        (run.folder / "metrics.json").write_text(metrics)
