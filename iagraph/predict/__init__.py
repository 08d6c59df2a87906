"""Scores of jets in files, from the trained model of a run or from an exported model."""

from iagraph.predict.predictors import ExportedPredictor, Predictor, RunPredictor, Scores, load, open_model
from iagraph.predict.writers import write_scores

__all__ = ["ExportedPredictor", "Predictor", "RunPredictor", "Scores", "load", "open_model", "write_scores"]
