"""As many jets as wanted, from a sample."""

from iagraph.data import Jets


def repeated(sample: Jets, jets: int) -> list[Jets]:
    """The sample again and again, cut to the number of jets; the parts share its memory."""
    starts = range(0, jets, len(sample))
    return [sample.part(0, min(len(sample), jets - start)) for start in starts]
