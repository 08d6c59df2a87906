"""Wrong exports are detected, and distinguished from ties decided by rounding."""

from dataclasses import replace

import pytest
import torch
from small_models import MODELS

from iagraph.export.comparison import Comparison, ExportError, compare, difference, edge_case_jets
from iagraph.export.padded import PaddedTagger
from iagraph.models import ParticleNet
from iagraph.testing import random_jets


def padded(model, change=lambda logits: logits):
    def exported(inputs):
        _, logits = PaddedTagger(model)(**inputs)
        logits = change(logits)
        return logits.softmax(1), logits

    return exported


@pytest.fixture
def model():
    torch.manual_seed(1)
    return MODELS["iaformer"]().eval()


def test_equal_models_do_not_differ(model):
    comparison = compare(padded(model), model, [random_jets([3, 40]), random_jets([5])])
    assert comparison.jets == len(edge_case_jets()) + 3
    assert comparison.largest < 1e-6
    assert comparison.undecided == 0


@pytest.mark.parametrize("wrong", [2e-5, torch.nan, torch.inf])
def test_one_wrong_number_is_detected(model, wrong):
    def change(logits):
        if len(logits) == 2:  # the last jets
            logits[1, 0] += wrong
        return logits

    with pytest.raises(ExportError, match="for a jet of 40 particles, more than 1e-05"):
        compare(padded(model, change), model, [random_jets([3, 40])])


def test_probabilities_belong_to_the_logits(model):
    def exported(inputs):
        probabilities, logits = padded(model)(inputs)
        return probabilities.flip(1), logits

    with pytest.raises(ExportError, match="differs"):
        compare(exported, model, [])


def test_large_logits_are_compared_relative_to_their_size():
    expected = torch.tensor([[200.0, 1.0], [0.5, 0.1]])
    found = expected + torch.tensor([[0.0, 1e-3], [0.0, 1e-3]])
    torch.testing.assert_close(difference(found, expected), torch.tensor([5e-6, 1e-3]), rtol=1e-3, atol=0)


class TestChoicesByRounding:
    """Two particles that are, up to rounding, equally far from a third one."""

    @pytest.fixture
    def net(self):
        torch.manual_seed(2)
        net = ParticleNet("kin", channels=((7, 11),), neighbors=1, head_hidden=5).eval()
        for parameter in net.parameters():
            parameter.data *= 2
        return net

    def jets(self, second):
        jets = random_jets([3] * 64, seed=9)
        y, phi = torch.tensor([0.0, 0.25, second]), torch.tensor([0.0, 0.0, 0.0])
        return replace(jets, momenta=jets.momenta._replace(rapidity=y.repeat(64), phi=phi.repeat(64)))

    def test_are_reported(self, net):
        ragged = self.jets(-0.25)

        def exported(inputs):
            _, logits = PaddedTagger(net)(**inputs)
            if len(logits) == 64:  # the other neighbour in one jet
                logits[5] = net(self.jets(-0.2499999))[5] if chosen else net(self.jets(-0.2500001))[5]
            return logits.softmax(1), logits

        undecided = []
        for chosen in (True, False):  # noqa: B007, the function above uses it
            undecided.append(compare(exported, net, [ragged] + [random_jets([7] * 32)] * 4).undecided)
        assert sorted(undecided) == [0, 1]  # one of both is what the model itself takes

    def test_too_many_are_refused(self, net):
        def exported(inputs):
            momenta = inputs["four_momenta"].clone()
            momenta[:, 2, 1] += 1e-7 * sign
            _, logits = PaddedTagger(net)(momenta, inputs["num_particles"])
            return logits.softmax(1), logits

        found = []
        for sign in (1, -1):  # noqa: B007, the function above uses it
            try:
                found.append(compare(exported, net, [self.jets(-0.25)]))
            except ExportError as error:
                found.append("too many" in str(error))
        assert True in found

    def test_do_not_excuse_larger_differences(self, net):
        def exported(inputs):
            _, logits = PaddedTagger(net)(**inputs)
            return logits.softmax(1), logits + 1e-4

        with pytest.raises(ExportError, match="differs by"):
            compare(exported, net, [self.jets(-0.25)])

    def test_are_none_in_models_without_discrete_choices(self, model):
        with pytest.raises(ExportError, match="differs by"):
            compare(padded(model, lambda logits: logits + 2e-5), model, [])
        assert isinstance(compare(padded(model), model, []), Comparison)
