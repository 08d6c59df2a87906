import numpy as np
import torch
from torch.testing import assert_close

from iagraph.interpret.depths import depths
from iagraph.interpret.interventions import trace
from iagraph.jets import JetBatch
from iagraph.testing import random_jets


def test_lens_after_the_last_block_gives_the_logits(model, batches):
    found = {depth.name: depth for depth in depths(model, batches)}
    everything = JetBatch.concatenate(batches)
    logits = model(everything).detach()
    assert_close(torch.from_numpy(found["2"].lens), logits)
    classes = [name for name in found if name.startswith("class")]
    if classes:
        assert_close(torch.from_numpy(found[classes[-1]].lens), logits)
    assert list(found) == ["inputs", "0", "1", "2", *classes]
    assert found["inputs"].lens is None
    stream = trace(model, everything).x
    assert_close(torch.from_numpy(found["1"].lens), model.read_out(stream[1], everything.graph()).detach())
    assert_close(torch.from_numpy(found["1"].vectors), everything.graph().mean(stream[1]).detach())


def test_inputs_are_means_of_node_features(make, batches):
    (inputs, *_) = depths(make("plain"), batches)
    jets = batches[0]
    features = make("plain").scale_particles(jets.node_features("kin"))
    assert np.allclose(inputs.vectors[1], features[5:12].mean(0))
    assert (inputs.vectors[6] == 0).all()  # a jet without particles


def test_vectors_of_jets_are_means_or_zero():
    jets = random_jets([2, 0, 3], 1)
    vectors = torch.tensor([[1.0, 0], [3, 4], [1, 1], [2, 2], [6, 9]])
    assert jets.graph().mean(vectors).tolist() == [[2, 2], [0, 0], [3, 4]]
