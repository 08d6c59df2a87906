"""What a model does with jets, and why: functions of a model and a :class:`~iagraph.jets.JetBatch`.

Models are in evaluation mode, jets on their device, unless it says otherwise. Nothing here knows of runs or files.
Modules are imported one by one, for some need more than the models do (the extra ``train``).
"""
