"""Graphs in three forms behind one protocol: layers call a :class:`Graph` and need not know its form."""

from iagraph.graph.dense import DenseGraph
from iagraph.graph.padded import PaddedGraph
from iagraph.graph.protocol import Graph, PrunableGraph
from iagraph.graph.sparse import SparseGraph, fully_connected, unordered_pairs

__all__ = ["DenseGraph", "Graph", "PaddedGraph", "PrunableGraph", "SparseGraph", "fully_connected", "unordered_pairs"]
