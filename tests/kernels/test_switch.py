"""Fast kernels beside their references, and the switch between them."""

import runpy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from layer_cases import ATTENTION, EDGES, every_attention, features, made, vectors
from small_models import MODELS, drawn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from iagraph import kernels, segment
from iagraph.graph import DenseGraph, dense
from iagraph.jets import JetBatch
from iagraph.kernels import blocks, pair_scores, switch
from iagraph.kernels.dropout import dropout
from iagraph.kinematics import Momenta
from iagraph.nn import EdgeConv, PairEncoder
from iagraph.testing import random_jets

SORTED = EDGES[:, EDGES[1].argsort(stable=True)]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Without torch-scatter, which has no second derivatives, and with small kernels working in parts."""
    monkeypatch.setattr(segment, "_torch_scatter", None)
    monkeypatch.setattr(blocks, "EDGES_IN_CACHE", 40)
    monkeypatch.setattr(pair_scores, "PAIRS_IN_CACHE", 2)
    kind = switch.use.kind
    yield
    kernels.use(kind)


class Kernel(NamedTuple):
    name: str
    """Its function of autograd."""
    run: Callable
    inputs: list[torch.Tensor]
    """The inputs with gradients."""


def randn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


GRAPH = DenseGraph(torch.tensor([0, 3, 5, 5]))


def padded_block(monkeypatch):
    """Three graphs of three, two and one nodes in one block."""
    monkeypatch.setattr(dense, "MAX_SIZE_CLASSES", 1)
    (block,) = DenseGraph(torch.tensor([0, 3, 5, 6])).blocks
    assert block.padding.sum() == 3
    return block


def of_table(block):
    real = ~block.padding
    return lambda pairs: blocks.table(pairs, block.pairs)[:, real.unsqueeze(1) & real.unsqueeze(2)]


def of_softmax_sum(block):
    return lambda pairs, values: blocks.softmax_sum(pairs, values, block.pairs).mT[:, ~block.padding]


def of_exponential_sum(block):
    """Quotients: the sums themselves are relative to the largest score."""

    def run(pairs, values):
        real = (~block.padding).to(values).unsqueeze(1)
        with_ones = torch.cat([values, torch.ones_like(values[:, :, :1])], dim=2) * real
        sums = blocks.exponential_sum(pairs, with_ones, block.pairs).mT[:, ~block.padding]
        return sums[..., :-1] / sums[..., -1:]

    return run


def of_attention(with_products):
    def run(pairs, values, *asked):
        scores = GRAPH.scores(pairs.split(GRAPH.pair_counts, dim=1))
        if with_products:
            scores = GRAPH.dot(*asked, 4, scores)
        return GRAPH.attend(scores, values, lambda maps: maps[:2] - 0.3 * maps[2:])[0]

    inputs = [randn(4, GRAPH.first.numel()), randn(5, 2, 2, seed=2)]
    if with_products:
        return Kernel("_Table", run, [*inputs, randn(5, 4, seed=3), randn(5, 4, seed=4)])
    return Kernel("_ExponentialSum", run, inputs)


def of_edge_convolution(training):
    torch.manual_seed(2)
    conv = EdgeConv(2, (3, 2)).double().train(training)
    for norm in conv.norms:
        torch.nn.init.normal_(norm.weight)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    neighbors = torch.tensor([[1, 2], [2, -1], [3, 0], [-1, 1]])
    conv.forward = lambda x: conv.convolve(x, neighbors)
    names = [name for name, _ in conv.named_parameters()]

    def run(x, *parameters):
        return functional_call(conv, dict(zip(names, parameters, strict=True)), (x,))

    return Kernel("_NormedMaps" if training else "", run, [randn(4, 2), *(p.detach() for p in conv.parameters())])


def of_pair_scores():
    torch.manual_seed(3)
    encoder = PairEncoder(3, (4,), 2).double()
    names = [name for name, _ in encoder.named_parameters()]

    def run(inputs, first, second, *parameters):
        for name, parameter in zip(names, parameters, strict=True):
            module, attribute = name.split(".")
            linear = encoder[int(module)]
            linear._parameters.pop(attribute, None)
            setattr(linear, attribute, parameter)
        layers = pair_scores.pair_scores(inputs, encoder, [first, second], [3, 0, 2])
        return tuple(piece for layer in layers for piece in layer)

    tensors = [randn(5, 3), randn(2, 2, seed=2), randn(3, 2, seed=3)]
    return Kernel("_PairScores", run, [*tensors, *(p.detach() for p in encoder.parameters())])


def of_segments(name):
    index = torch.tensor([0, 0, 0, 2, 3, 3])
    ptr, source = torch.tensor([0, 3, 3, 4, 6]), torch.tensor([1, 0, 4, 2, 2, 1])
    if name == "sum":
        return Kernel("_SortedSum", lambda rows: segment.segment_sum(rows, index, 4, ptr), [randn(6, 2)])
    if name == "softmax":
        return Kernel("_SortedSum", lambda rows: segment.segment_softmax(rows, index, 4, ptr), [randn(6, 2)])
    return Kernel(
        "_WeightedSum",
        lambda weights, values: segment.weighted_sum(weights, values, source, index, 4, ptr),
        [randn(6, 2), randn(5, 8, seed=2)],
    )


def of_regroup():
    where, back = torch.tensor([2, 3, 0, 1, 3]), torch.tensor([2, 3, 0])
    return Kernel("_Regroup", lambda rows: blocks.regroup(rows, where, back), [randn(3, 2)])


EVERY = {
    "table": lambda block: Kernel("_Table", of_table(block), [randn(2, 10)]),
    "softmax sum": lambda block: Kernel(
        "_SoftmaxSum", of_softmax_sum(block), [randn(3, 10), randn(3, 3, 2, 3, seed=2)]
    ),
    "exponential sum": lambda block: Kernel(
        "_ExponentialSum", of_exponential_sum(block), [randn(3, 10), randn(3, 3, 2, 3, seed=2)]
    ),
    "regroup": lambda block: of_regroup(),
    "attention": lambda block: of_attention(False),
    "attention with products": lambda block: of_attention(True),
    "edge maps in training": lambda block: of_edge_convolution(True),
    "edge maps": lambda block: of_edge_convolution(False),
    "pair scores": lambda block: of_pair_scores(),
    "segment sum": lambda block: of_segments("sum"),
    "segment softmax": lambda block: of_segments("softmax"),
    "weighted sum": lambda block: of_segments("weighted sum"),
}


@pytest.fixture(params=EVERY)
def kernel(request, monkeypatch):
    found = EVERY[request.param](padded_block(monkeypatch))
    return found._replace(inputs=[tensor.clone().requires_grad_() for tensor in found.inputs])


def as_list(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def functions(outputs):
    """The names of all functions through which gradients flow."""
    names, todo = set(), [each.grad_fn for each in outputs]
    seen = set()
    while todo:
        function = todo.pop()
        if function is not None and function not in seen:
            seen.add(function)
            names.add(type(function).__name__)
            todo += [following for following, _ in function.next_functions]
    return names


def first_and_second(kernel):
    """Values, gradients, and gradients of these."""
    outputs = as_list(kernel.run(*kernel.inputs))
    total = sum((each * torch.linspace(0.3, 1.7, each.numel()).view_as(each)).sum() for each in outputs)
    plain = torch.autograd.grad(total, kernel.inputs, retain_graph=True)
    total = total + sum(each.square().sum() for each in outputs)
    first = torch.autograd.grad(total, kernel.inputs, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), kernel.inputs)
    return outputs, [*outputs, *plain, *first, *second]


def test_kernel_equals_its_reference(kernel):
    results = {}
    for kind in ("fast", "reference"):
        with kernels.use(kind):
            outputs, results[kind] = first_and_second(kernel)
        ours = {name for name in functions(outputs) if name.startswith("_")}
        assert bool(ours) == (kind == "fast" and bool(kernel.name))
        assert not kernel.name or (f"{kernel.name}Backward" in ours) == (kind == "fast")
    for one, other in zip(results["fast"], results["reference"], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    assert sum(each.abs().sum() for each in results["fast"][-len(kernel.inputs) :]) > 1e-3


@pytest.mark.parametrize("kind", ["fast", "reference"])
def test_first_and_second_derivatives_equal_finite_differences(kernel, kind):
    with kernels.use(kind):
        assert gradcheck(kernel.run, kernel.inputs)
        assert gradgradcheck(kernel.run, kernel.inputs)


def test_reference_dropout_is_that_of_pytorch():
    x = torch.ones(1000)
    torch.manual_seed(1)
    expected = torch.nn.functional.dropout(x, 0.3)
    for kind in ("fast", "reference"):
        torch.manual_seed(1)
        with kernels.use(kind):
            assert torch.equal(dropout(x, 0.3), expected) == (kind == "reference")


# --- the switch ---


def test_use_as_context_and_as_call():
    kernels.use("auto")
    with kernels.use("reference"):
        assert not switch.fast()
        with kernels.use("fast"):
            assert switch.fast()
        assert not switch.fast()
    assert switch.use.kind == "auto"
    with pytest.raises(KeyError), kernels.use("reference"):
        raise KeyError
    assert switch.use.kind == "auto"
    kernels.use("reference")
    assert not switch.fast()


@pytest.mark.parametrize("kind", ["", "slow", "Fast"])
def test_other_kinds_are_refused(kind):
    with pytest.raises(ValueError, match=f"kernels '{kind}': should be one of auto, fast, reference"):
        kernels.use(kind)
    assert switch.use.kind == "auto"


def test_environment_variable_sets_the_default(monkeypatch):
    monkeypatch.delenv("IAGRAPH_KERNELS", raising=False)
    assert runpy.run_path(switch.__file__)["use"].kind == "auto"
    for kind in switch.KINDS:
        monkeypatch.setenv("IAGRAPH_KERNELS", kind)
        assert runpy.run_path(switch.__file__)["use"].kind == kind
    monkeypatch.setenv("IAGRAPH_KERNELS", "quick")
    with pytest.raises(ValueError, match=r"kernels 'quick': .* \(see also IAGRAPH_KERNELS\)"):
        runpy.run_path(switch.__file__)


def test_auto_is_fast_except_under_transforms_and_compilers():
    seen = {}

    def look(name):
        def function(x):
            seen[name] = switch.fast()
            return x.square().sum()

        return function

    x = torch.ones(2)
    for kind in ("auto", "fast"):
        with kernels.use(kind):
            look("eager")(x)
            torch.func.grad(look("grad"))(x)
            torch.func.jacrev(look("jacrev"))(x)
            torch.vmap(look("vmap"))(x)
        assert seen == {"eager": True, **dict.fromkeys(("grad", "jacrev", "vmap"), kind == "fast")}
    assert torch.compile(lambda x: x + switch.fast(), fullgraph=True, backend="eager")(x).tolist() == [1, 1]


# --- transforms and second derivatives of layers and models ---


def hessian(function, x):
    """By backward passes of autograd."""
    return torch.autograd.functional.hessian(function, x)


@every_attention
@pytest.mark.parametrize("edges", [EDGES, SORTED], ids=["any order", "sorted by target"])
def test_transforms_of_layers_equal_autograd(case, edges):
    conv, x, edge_attr = made(case), vectors().requires_grad_(), features(case)

    def layer(x):
        return conv(x, edges, *edge_attr)

    def total(x):
        return layer(x).pow(3).sum()

    given = x.detach()
    (expected,) = torch.autograd.grad(total(x), x)
    torch.testing.assert_close(torch.func.grad(total)(given), expected, rtol=1e-12, atol=1e-12)
    expected = torch.autograd.functional.jacobian(layer, given)
    torch.testing.assert_close(torch.func.jacrev(layer)(given), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.jacfwd(layer)(given), expected, rtol=1e-12, atol=1e-12)
    expected = hessian(total, given)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(torch.func.hessian(total)(given), expected, rtol=1e-11, atol=1e-11)


@every_attention
@pytest.mark.parametrize("edges", [EDGES, SORTED], ids=["any order", "sorted by target"])
def test_second_derivatives_of_layers_equal_finite_differences(case, edges):
    conv, inputs = made(case), [vectors().requires_grad_(), *(each.requires_grad_() for each in features(case))]
    assert gradgradcheck(lambda x, *edge_attr: conv(x, edges, *edge_attr), inputs)


@pytest.mark.parametrize("name", ["iaformer", "part", "interaction"])
def test_transforms_of_models_equal_autograd(name):
    model, jets = drawn(MODELS[name]), random_jets([3, 0, 2], dtype=torch.float64)

    def total(particles):
        moved = JetBatch(Momenta(*particles.unbind(1)), jets.ptr, jets.pid, jets.y, jets.impact)
        return model(moved).tanh().square().sum()

    given = torch.stack(tuple(jets.momenta), dim=1)
    given[:, 3] = given[:, 3].clamp(min=0.1)  # where the mass is zero, energy has a kink
    (expected,) = torch.autograd.grad(total(x := given.clone().requires_grad_()), x)
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(torch.func.grad(total)(given), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.func.jacrev(total)(given), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.func.hessian(total)(given), hessian(total, given), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["iaformer", "part", "interaction"])
def test_forward_mode_equals_reverse_mode(name):
    """Also in jets with one particle, which is at distance zero from the axis."""
    model, jets = drawn(MODELS[name]), random_jets([3, 1], dtype=torch.float64)

    def logits(pt):
        return model(jets.with_momenta(jets.momenta._replace(pt=pt)))

    jets.sums()  # kept, but not for other momenta
    direction = torch.tensor([0.3, -0.7, 1.1, 0.5]).double()
    _, expected = torch.autograd.functional.jvp(logits, jets.momenta.pt, direction)
    assert expected.abs().min() > 1e-6
    torch.testing.assert_close(torch.func.jvp(logits, (jets.momenta.pt,), (direction,))[1], expected)


def test_gradients_of_parameters_by_transforms():
    model, jets = drawn(MODELS["iaformer"]), random_jets([3, 0, 2], dtype=torch.float64)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def total(parameters):
        return functional_call(model, parameters, (jets,)).tanh().square().sum()

    model(jets).tanh().square().sum().backward()
    for name, found in torch.func.grad(total)(parameters).items():
        torch.testing.assert_close(found, model.get_parameter(name).grad, rtol=1e-10, atol=1e-12)


def test_fast_kernels_refuse_transforms():
    conv, given = made(ATTENTION["differential"]), features(ATTENTION["differential"], SORTED)
    with kernels.use("fast"), pytest.raises(RuntimeError):
        torch.func.grad(lambda x: conv(x, SORTED, *given).sum())(vectors())
