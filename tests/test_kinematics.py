import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iagraph.graph import fully_connected
from iagraph.kinematics import (
    LOG_FLOOR,
    NODE_FEATURES,
    PAIR_FEATURES,
    SCALING,
    Impact,
    Momenta,
    charge,
    from_cartesian,
    jet_momenta,
    node_features,
    pair_features,
    pair_mass2,
    to_cartesian,
    wrap_phi,
)
from iagraph.testing import assert_boost_invariant, random_jets


def momenta(*rows, dtype=torch.float64):
    return Momenta(*torch.tensor(rows, dtype=dtype).t())


def exact_mass2(first, second):
    """The textbook E^2 - p^2 of two particles in 60 digits."""
    with mpmath.workdps(60):
        total = [mpmath.mpf(0)] * 4
        for pt, y, phi, mass in (first, second):
            pt, y, phi, mass = (mpmath.mpf(float(value)) for value in (pt, y, phi, mass))
            mt = mpmath.sqrt(pt**2 + mass**2)
            vector = (pt * mpmath.cos(phi), pt * mpmath.sin(phi), mt * mpmath.sinh(y), mt * mpmath.cosh(y))
            total = [a + b for a, b in zip(total, vector, strict=True)]
        px, py, pz, energy = total
        return float(energy**2 - px**2 - py**2 - pz**2)


class TestCartesian:
    def test_hand_computed(self):
        # px, py, pz, E = 3, 4, 12, 14: pt = 5, m^2 = 196 - 169 = 27, y = 1/2 ln((14 + 12) / (14 - 12))
        got = from_cartesian(*torch.tensor([[3.0, 4.0, 12.0, 14.0]], dtype=torch.float64).t())
        expected = (5.0, 0.5 * math.log(13), math.atan2(4, 3), math.sqrt(27))
        for value, wanted in zip(got, expected, strict=True):
            assert value.item() == pytest.approx(wanted, rel=1e-14)

    @given(st.tuples(st.floats(1e-3, 1e3), st.floats(-4, 4), st.floats(-3.1, 3.1), st.floats(0, 100)))
    def test_round_trip(self, particle):
        original = momenta(particle)
        back = from_cartesian(*to_cartesian(original))
        for value, wanted in zip(back[:3], original[:3], strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-11)
        # The mass is a difference of large numbers, however it is written: allow what float64 leaves of it.
        energy = original.energy.item()
        assert abs(back.mass.item() ** 2 - original.mass.item() ** 2) < 1e-14 * energy**2

    def test_forward_particle_keeps_its_digits_in_float32(self):
        exact = momenta((0.7, 6.5, 0.3, 0.0))
        got = from_cartesian(*(component.float() for component in to_cartesian(exact)))
        assert got.rapidity.item() == pytest.approx(6.5, rel=1e-6)

    def test_degenerate_particles(self):
        rows = [[0.0, 0, 0, 0], [1, 0, 0, 0.5], [0, 0, 5, 5], [3, 4, 0, -1]]  # empty, E < |p|, along the beam, E < 0
        got = from_cartesian(*torch.tensor(rows).t())
        assert all(component.isfinite().all() for component in got)
        assert got.rapidity[0] == 0
        assert got.mass.tolist() == [0, 0, 0, 0]
        assert got.pt.tolist() == [0, 1, 0, 5]
        assert got.rapidity[2] > 15


@given(st.floats(-1e4, 1e4))
def test_wrapped_angles(angle):
    for dtype in (torch.float32, torch.float64):
        value = torch.tensor(angle, dtype=dtype)
        wrapped = wrap_phi(value)
        assert -math.pi - 1e-6 <= wrapped < math.pi
        turns = (value.double() - wrapped.double()) / (2 * math.pi)
        assert abs(turns - turns.round()) < (1e-3 if dtype == torch.float32 else 1e-11)


def test_wrapping_keeps_angles_within_the_range():
    angles = torch.tensor([-math.pi, -1.0, 0.0, 3.0, math.pi], dtype=torch.float64)
    torch.testing.assert_close(wrap_phi(angles)[:4], angles[:4], rtol=0, atol=1e-15)
    assert wrap_phi(angles)[4] == pytest.approx(-math.pi)


CASES = {
    "ordinary": ((20.0, 0.3, 1.0, 0.14), (7.0, 0.1, 1.2, 0.94)),
    "collinear": ((200.0, 0.3, 1.0, 0.0), (70.0, 0.3 + 1e-4, 1.0, 0.0)),
    "collinear and heavy": ((200.0, 0.3, 1.0, 0.14), (70.0, 0.3, 1.0 + 1e-5, 0.5)),
    "identical": ((50.0, -1.2, 2.0, 0.94), (50.0, -1.2, 2.0, 0.94)),
    "one massless": ((1e3, 2.0, -3.1, 0.0), (1e-2, 2.1, 3.1, 0.94)),
    "soft": ((1e-3, 0.0, 0.0, 0.0), (2e-3, 0.2, 0.1, 0.0)),
    "at rest": ((0.0, 0.0, 0.0, 0.14), (3.0, 0.5, 0.0, 0.14)),
}


class TestPairMass:
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-14)])
    def test_against_60_digits(self, case, dtype, tolerance):
        first, second = (momenta(row, dtype=dtype) for row in CASES[case])
        exact = exact_mass2(*(tuple(component.item() for component in m) for m in (first, second)))
        assert pair_mass2(first, second).item() == pytest.approx(exact, rel=tolerance)

    @settings(max_examples=200)
    @given(
        st.lists(
            st.tuples(st.floats(0.01, 1e3), st.floats(-2, 2), st.floats(-3, 3), st.floats(0, 2)), min_size=2, max_size=2
        )
    )
    def test_any_pair_in_float32(self, rows):
        first, second = (momenta(row, dtype=torch.float32) for row in rows)
        exact = exact_mass2(*(tuple(component.item() for component in m) for m in (first, second)))
        assert pair_mass2(first, second).item() == pytest.approx(exact, rel=1e-5, abs=1e-30)

    def test_empty_particles_are_massless(self):
        nothing = momenta((0.0, 0.0, 0.0, 0.0), dtype=torch.float32)
        assert pair_mass2(nothing, nothing).item() == 0


class TestPairFeatures:
    def test_hand_computed(self):
        # Two massless particles, 0.3 apart in y and 0.4 in phi across the seam at pi: distance 0.5.
        first, second = momenta((8.0, 0.1, math.pi - 0.1, 0.0)), momenta((2.0, 0.4, -math.pi + 0.3, 0.0))
        jet_pt, jet_energy = torch.tensor([40.0]).double(), torch.tensor([80.0]).double()
        got = pair_features("iaformer", first, second, jet_pt, jet_energy).squeeze(1)
        energy = 8 * math.cosh(0.1) + 2 * math.cosh(0.4)
        mass2 = 2 * 8 * 2 * (math.cosh(0.3) - math.cos(0.4))
        logs = [0.5, 2 * 0.5, 2 / 10, mass2, 10 / 40, energy / 80]
        torch.testing.assert_close(got, torch.tensor(logs, dtype=torch.float64).log(), rtol=1e-12, atol=1e-12)

    def test_feature_sets_are_subsets_of_the_same_features(self):
        jets = random_jets([11, 7])
        first, second = fully_connected(jets.ptr)
        everything = dict(zip(PAIR_FEATURES["iaformer"], jets.edge_features("iaformer", first, second), strict=False))
        for name, names in PAIR_FEATURES.items():
            got = jets.edge_features(name, first, second)
            assert got.shape == (len(names) + 1, 11 * 11 + 7 * 7)
            assert all(torch.equal(row, everything[key]) for key, row in zip(names, got, strict=False))

    @pytest.mark.parametrize("name", PAIR_FEATURES)
    def test_symmetric_in_the_two_particles(self, name):
        jets = random_jets([13, 5])
        first, second = fully_connected(jets.ptr)
        there, back = jets.edge_features(name, first, second), jets.edge_features(name, second, first)
        torch.testing.assert_close(there, back, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("name", ["invariant", "part"])
    def test_unchanged_by_boosts_and_rotations(self, name):
        jets = random_jets([17, 1, 5], dtype=torch.float64)
        first, second = fully_connected(jets.ptr)
        different = first != second
        assert_boost_invariant(lambda j: j.edge_features(name, first[different], second[different]), jets, 1e-9)
        # A particle with itself: the same float is subtracted from itself, so the floor is exact.
        assert_boost_invariant(lambda j: j.edge_features(name, first[~different], second[~different]), jets, 1e-9)

    def test_published_energy_fraction_is_not_invariant(self):
        jets = random_jets([17], dtype=torch.float64)
        with pytest.raises(AssertionError):
            assert_boost_invariant(lambda j: j.edge_features("iaformer", *fully_connected(j.ptr)), jets, 1e-3)

    def test_float32_agrees_with_float64(self):
        jets = random_jets([29, 31])
        edges = fully_connected(jets.ptr)
        exact = jets.double().edge_features("iaformer", *edges).float()
        got = jets.edge_features("iaformer", *edges)
        # Below a distance of 1e-3 the rounding of phi itself, 2e-7 near pi, matters.
        apart = exact[0] > math.log(1e-3)
        torch.testing.assert_close(got[:, apart], exact[:, apart], rtol=0, atol=5e-4)
        torch.testing.assert_close(got[2:, ~apart], exact[2:, ~apart], rtol=0, atol=5e-2)

    @pytest.mark.parametrize("name", PAIR_FEATURES)
    def test_finite_with_finite_gradients_for_degenerate_pairs(self, name):
        rows = [(5.0, 0.1, 0.2, 0.0), (5.0, 0.1, 0.2, 0.0), (0.0, 0.0, 0.0, 0.0), (1e-20, 0.0, 0.0, 0.0)]
        particles = Momenta(*(component.requires_grad_() for component in momenta(*rows, dtype=torch.float32)))
        first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
        shares = torch.full((16,), 5.0)
        got = pair_features(name, particles.select(first), particles.select(second), shares, shares)
        assert got.isfinite().all()
        assert got.min() >= math.log(LOG_FLOOR) - 1e-5
        got.sum().backward()
        assert all(component.grad.isfinite().all() for component in particles)

    def test_requiring_gradients_does_not_change_values(self):
        particles = momenta(
            (5.0, 0.1, 0.2, 0.0), (7.0, 0.4, -3.1, 0.1), (0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 0.0)
        )
        first, second = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
        shares = torch.ones(16).double()
        without = pair_features("iaformer", particles.select(first), particles.select(second), shares, shares)
        for component in particles:
            component.requires_grad_()
        asked = pair_features("iaformer", particles.select(first), particles.select(second), shares, shares)
        torch.testing.assert_close(asked.detach(), without, rtol=0, atol=0, equal_nan=True)
        assert without[3].isnan().tolist() == ((first == 3) | (second == 3)).tolist()

    def test_unknown_feature_set_is_named(self):
        jets = random_jets([3])
        with pytest.raises(ValueError, match="unknown feature set 'parT'; there are invariant, iaformer, part"):
            jets.edge_features("parT", *fully_connected(jets.ptr))


class TestNodeFeatures:
    def test_hand_computed(self):
        # Two massless particles on either side of phi = pi.
        rows = [(10.0, -1.2, math.pi - 0.1, 0.0), (10.0, -0.8, -math.pi + 0.1, 0.0)]
        particles = momenta(*rows)
        got = node_features("iaformer", particles, torch.tensor([0, 0]), torch.tensor([0, 2]))
        energies = [10 * math.cosh(1.2), 10 * math.cosh(0.8)]
        jet_energy, jet_pz = sum(energies), 10 * (math.sinh(-1.2) + math.sinh(-0.8))
        jet_pt = 2 * 10 * math.cos(0.1)
        jet_y = 0.5 * math.log((jet_energy + jet_pz) / (jet_energy - jet_pz))
        for row, (pt, y, phi, _), energy in zip(got.tolist(), rows, energies, strict=True):
            delta_phi = -0.1 if phi > 0 else 0.1
            expected = [
                energy,
                pt * math.cos(phi),
                pt * math.sin(phi),
                pt * math.sinh(y),
                math.log(pt),
                math.log(energy),
            ]
            expected += [math.log(pt / jet_pt), math.log(energy / jet_energy), y - jet_y, delta_phi]
            expected += [math.hypot(y - jet_y, 0.1)]
            assert row == pytest.approx(expected, rel=1e-12, abs=1e-12)

    def test_kin_and_kinpid_have_the_order_of_weaver(self):
        kin = ("log_pt", "log_energy", "log_pt_share", "log_energy_share", "delta_r", "delta_eta", "delta_phi")
        species = ("charge", "is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
        assert NODE_FEATURES["kin"] == kin
        assert NODE_FEATURES["kinpid"] == kin[:5] + species + kin[5:]
        assert NODE_FEATURES["full"] == kin[:5] + species + ("tanh_d0", "d0_error", "tanh_dz", "dz_error") + kin[5:]
        assert [len(NODE_FEATURES[name]) for name in ("kin", "kinpid", "full", "iaformer")] == [7, 13, 17, 11]

    def test_species(self):
        expected = {
            211: (1, 1, 0, 0, 0, 0),
            -321: (-1, 1, 0, 0, 0, 0),
            -2212: (-1, 1, 0, 0, 0, 0),
            130: (0, 0, 1, 0, 0, 0),
            -2112: (0, 0, 1, 0, 0, 0),
            22: (0, 0, 0, 1, 0, 0),
            11: (-1, 0, 0, 0, 1, 0),
            -11: (1, 0, 0, 0, 1, 0),
            -13: (1, 0, 0, 0, 0, 1),
            -3312: (1, 1, 0, 0, 0, 0),
            3122: (0, 0, 1, 0, 0, 0),
            15: (-1, 0, 0, 0, 0, 0),
            12: (0, 0, 0, 0, 0, 0),
            0: (0, 0, 0, 0, 0, 0),
        }
        pid = torch.tensor(list(expected))
        jets = random_jets([len(pid)])
        got = node_features("kinpid", jets.momenta, jets.batch, jets.ptr, pid)[:, 5:11]
        assert [tuple(row) for row in got.int().tolist()] == list(expected.values())

    def test_impact_parameters_by_hand(self):
        # tanh(0.3) = (e^0.6 - 1) / (e^0.6 + 1), tanh(-2) = (e^-4 - 1) / (e^-4 + 1); errors stay within 0 and 1.
        rows = [[0.3, 0.05, -2.0, 1.7], [-2.0, 0.0, 0.3, 0.4], [0.0, 1.3, 0.0, -1.0], [150.0, 1.0, -150.0, 0.9]]
        small, large = math.expm1(0.6) / (math.exp(0.6) + 1), math.expm1(-4) / (math.exp(-4) + 1)
        expected = [[small, 0.05, large, 1], [large, 0, small, 0.4], [0, 1, 0, 0], [1, 1, -1, 0.9]]
        jets = random_jets([3, 1], dtype=torch.float64)
        impact = Impact(*torch.tensor(rows, dtype=torch.float64).t())
        arguments = (jets.momenta, jets.batch, jets.ptr, jets.pid)
        got = node_features("full", *arguments, impact)
        torch.testing.assert_close(got[:, 11:15], torch.tensor(expected, dtype=torch.float64), rtol=1e-15, atol=1e-15)
        others = [*range(11), 15, 16]
        assert torch.equal(got[:, others], node_features("kinpid", *arguments))
        # Models pass all four on as they are: weaver neither shifts nor scales them.
        assert {SCALING[name] for name in NODE_FEATURES["full"][11:15]} == {(0.0, 1.0)}

    def test_only_full_needs_impact_parameters(self):
        jets = random_jets([3])
        arguments = (jets.momenta, jets.batch, jets.ptr)
        message = (
            r"'full' need impact parameters, but these jets have none \(d0, d0_error, dz, dz_error\); use 'kinpid'"
        )
        with pytest.raises(ValueError, match=message):
            node_features("full", *arguments, jets.pid)
        with pytest.raises(ValueError, match="'full' need particle species"):
            node_features("full", *arguments, None, Impact(*torch.zeros(4, 3)))

    def test_charge_is_odd(self):
        pid = torch.tensor([11, 13, 211, 321, 2212, 3112, 3222, 3312, 3334, 22, 130, 2112])
        assert torch.equal(charge(pid), -charge(-pid))

    def test_every_feature_can_be_scaled(self):
        for names in (*NODE_FEATURES.values(), *PAIR_FEATURES.values()):
            assert all(SCALING[name][1] > 0 for name in names)

    def test_kinpid_needs_species_and_kin_does_not(self):
        jets = random_jets([3])
        arguments = (jets.momenta, jets.batch, jets.ptr)
        assert node_features("kin", *arguments).shape == (3, 7)
        with pytest.raises(ValueError, match=r"'kinpid' need particle species.*use 'kin' instead"):
            node_features("kinpid", *arguments)

    @pytest.mark.parametrize("name", NODE_FEATURES)
    def test_degenerate_jets_are_finite_with_finite_gradients(self, name):
        nothing, photon = (0.0, 0.0, 0.0, 0.0), (5.0, 0.1, 0.2, 0.0)
        rows = [nothing, nothing, photon, photon, photon, photon, nothing]
        ptr = torch.tensor([0, 0, 2, 3, 5, 7, 7])  # no particle, two without energy, one, two equal, one and nothing
        batch = torch.tensor([1, 1, 2, 3, 3, 4, 4])
        particles = Momenta(*(component.requires_grad_() for component in momenta(*rows, dtype=torch.float32)))
        got = node_features(name, particles, batch, ptr, torch.full((7,), 22), Impact(*torch.zeros(4, 7)))
        assert got.isfinite().all()
        got.sum().backward()
        assert all(component.grad.isfinite().all() for component in particles)

    def test_delta_eta_flips_sign_with_the_jet_unlike_delta_rapidity(self):
        rows = [(5.0, -1.0, 0.2, 0.0), (7.0, -1.3, 0.2, 0.0)]
        arguments = (momenta(*rows), torch.tensor([0, 0]), torch.tensor([0, 2]))
        mirrored, plain = node_features("kin", *arguments)[:, 5], node_features("iaformer", *arguments)[:, 8]
        torch.testing.assert_close(mirrored, -plain)
        assert plain[0] > 0 > plain[1]

    @pytest.mark.parametrize("name", NODE_FEATURES)
    def test_gradients(self, name):
        jets = random_jets([5, 3], dtype=torch.float64)
        # No error at 0 or 1, where the clip bends.
        impact = torch.tensor([[0.3, -2.0], [0.4, 1.5], [-0.1, 0.7], [0.2, 0.9]], dtype=torch.float64).repeat(1, 4)

        def features(*components):
            return node_features(
                name, Momenta(*components[:4]), jets.batch, jets.ptr, jets.pid, Impact(*components[4:])
            )

        components = (*(component.abs() for component in jets.momenta), *impact)
        assert torch.autograd.gradcheck(features, tuple(c.requires_grad_() for c in components), atol=1e-4)

    def test_float32_sums_without_float64_support(self, monkeypatch):
        jets = random_jets([40, 60])
        expected = jets.node_features("kin")
        monkeypatch.setattr(torch, "float64", torch.float32)  # as on Apple's GPUs
        torch.testing.assert_close(jets.node_features("kin"), expected, rtol=0, atol=1e-5)


def test_jet_momenta_are_vector_sums():
    jets = random_jets([19, 0, 1], dtype=torch.float64)
    total = jet_momenta(jets.momenta, jets.batch, jets.ptr)
    vectors = np.stack(to_cartesian(jets.momenta), axis=1)
    expected = np.stack([vectors[:19].sum(0), np.zeros(4), vectors[19]])
    np.testing.assert_allclose(np.stack(to_cartesian(total), axis=1), expected, rtol=1e-10, atol=1e-9)
