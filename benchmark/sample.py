"""Any number of jets from a sample."""

from iagraph.data import Jets


def repeated(sample: Jets, jets: int) -> list[Jets]:
    """The sample, repeated and cut to a number of jets, in parts that share its memory."""
    starts = range(0, jets, len(sample))
    return [sample.part(0, min(len(sample), jets - start)) for start in starts]
