"""What a model does with jets, and why: functions of a model and a :class:`~iagraph.jets.JetBatch`.

Unless stated otherwise, models are in evaluation mode and jets on their device. Nothing here depends on runs or files.
Import the modules one by one: some need more packages than the models do (extra ``train``).
"""
