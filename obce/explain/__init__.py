"""Explanations: what a neuron does, told by its topology, each claim with a test beside it."""

from obce.explain.between import Redundancy, redundancy
from obce.explain.card import NO_STORY, Card, cards, layer, neuron, page
from obce.explain.charts import Atlas, Chart, atlas
from obce.explain.rules import Rules, rules
from obce.explain.splits import Split, groups, splits, tree
from obce.explain.stories import Story

__all__ = [
    "NO_STORY",
    "Atlas",
    "Card",
    "Chart",
    "Redundancy",
    "Rules",
    "Split",
    "Story",
    "atlas",
    "cards",
    "groups",
    "layer",
    "neuron",
    "page",
    "redundancy",
    "rules",
    "splits",
    "tree",
]
