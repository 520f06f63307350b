"""The checkers of the book's exercises: right answers pass (nbval sees to it), wrong ones don't."""

from __future__ import annotations

import copy
import importlib
import inspect
import math
import pkgutil
from contextlib import ExitStack, contextmanager
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from persim import bottleneck
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.special import expit, log_softmax, logit, softmax
from scipy.stats import (
    binomtest,
    entropy,
    gmean,
    linregress,
    pearsonr,
    rankdata,
    spearmanr,
)
from sklearn.linear_model import Ridge
from sklearn.metrics import cohen_kappa_score
from transformers import BertConfig, BertModel

import obce
from obce import homology
from obce.book import exercises
from obce.explain.rules import longest_bar
from obce.running.teaching import prediction_loss

CHECKERS = {name: getattr(exercises, name) for name in exercises.__all__}


@contextmanager
def forgets_after_an_error(module, unit):
    seen = []
    handle = module.register_forward_hook(lambda module, x, out: seen.append(out[..., unit]))
    yield seen
    handle.remove()


def tree(points):
    return linkage(np.reshape(points, (len(points), -1)), "single")


def flood(points, scale):
    """Components by walking from point to point, without any library."""
    left, count = {*range(len(points))}, 0
    while left:
        count, heap = count + 1, [left.pop()]
        while heap:
            here = points[heap.pop()]
            near = {j for j in left if sum((here - points[j]) ** 2) <= scale**2 + 1e-9}
            left -= near
            heap += near
    return count


def longest_gap(values, least):
    points = np.sort(values)
    gaps = np.diff(points)
    start = least - 1 + int(np.argmax(gaps[least - 1 : len(points) - least]))
    return points[start] + gaps[start] / 2


def count_trees(leaves, questions):
    if leaves == 1:
        return 2
    return questions * sum(
        count_trees(first, questions) * count_trees(leaves - first, questions)
        for first in range(1, leaves)
    )


def kullback_leibler(dense, small):
    p, q = softmax(dense, axis=1), softmax(small, axis=1)
    return np.mean(entropy(p, q, axis=1))


def parameters(h, i):
    return 4 * h * (h + 1) + i * (h + 1) + h * (i + 1) + 4 * h


def share_of_two_kinds(h, i, keep):
    return (1 - keep) * parameters(h, i) / ((h + i) * (2 * h + 1))


def places(shares):
    return np.argsort(np.argsort(-shares))


def both_have(x, y):
    return [unit for unit in range(len(x)) if np.isfinite(x[unit] + y[unit])]


def moves(x, y):
    """Unit -> by how much its place among those that both have differs, counted one by one."""
    there = both_have(x, y)
    return {
        unit: abs(sum(x[other] > x[unit] for other in there)
                  - sum(y[other] > y[unit] for other in there))
        for unit in there
    }  # fmt: skip


def pooled_gap(tables):
    told, untold = np.sum(tables, axis=0)
    return 100 * (told[0] / sum(told) - untold[0] / sum(untold))


def gaps_of(tables):
    return np.array([100 * (a / (a + b) - c / (c + d)) for (a, b), (c, d) in tables])


def expected_and_more(tables):
    """The same difference by what stays beyond what is expected, as Mantel and Haenszel have it."""
    excess = weight = 0
    for (a, b), (c, d) in tables:
        n = a + b + c + d
        excess, weight = excess + a - (a + b) * (a + c) / n, weight + (a + b) * (c + d) / n
    return 100 * excess / weight


def joint(x, missing, penalty):
    """Ridge by one equation for weights and bias together, of which the bias has no price."""
    rows = np.column_stack([x, np.ones(len(x))])
    price = penalty * np.diag([1.0] * x.shape[1] + [0.0])
    found = np.linalg.pinv(rows.T @ rows + price) @ rows.T @ missing
    return found[:-1].T, found[-1]


def without_means(x, missing, penalty, scale=1.0):
    """Ridge by the singular values of the centred inputs."""
    left, values, right = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    away = left.T @ (missing - missing.mean(axis=0))
    change = (right.T @ (values[:, None] / (values[:, None] ** 2 + scale * penalty) * away)).T
    return change, missing.mean(axis=0) - change @ x.mean(axis=0)


def from_scikit(x, missing, penalty):
    fit = Ridge(alpha=penalty).fit(x, missing)
    return fit.coef_.reshape(missing.shape[1], -1), fit.intercept_


def slope_and_start(stays, gone, weight):
    line = linregress(stays, gone)
    return weight * line.slope, weight * line.intercept


def lowest_of_all(groups, k):
    every = sorted((score, place) for place, group in enumerate(groups) for score in group)
    return [sum(place == own for _, place in every[:k]) for own in range(len(groups))]


def kept_pairs(queries, keys):
    """Pairs by their keys alone, one column at a time."""
    stay = [u for u in range(keys.shape[1]) if len({*keys[:, u]}) > 1]
    return np.take(queries, stay, axis=1), np.take(keys, stay, axis=1)


def cut_maps(up, down, constants, *, fold=1.0, rows=None, columns=None, shift=True):
    """A feed-forward part without some units; what is not given is done right."""
    stay = [u for u in range(up.out_features) if u not in constants]
    rows, columns = stay if rows is None else rows, stay if columns is None else columns
    maps = torch.nn.Linear(up.in_features, len(rows)), torch.nn.Linear(len(rows), down.out_features)
    gone = torch.tensor([constants.get(u, 0.0) for u in range(up.out_features)])
    maps[0].weight.data, maps[0].bias.data = up.weight.data[rows], up.bias.data[rows]
    maps[1].weight.data = down.weight.data[:, columns]
    maps[1].bias.data = down.bias.data * shift + fold * (down.weight.data @ gone)
    return maps


def cut_in_place(up, down, constants):
    for old, new in zip((up, down), cut_maps(up, down, constants), strict=True):
        old.weight, old.bias = new.weight, new.bias
    return up, down


def step_down(p):
    """Holm's method, from the smallest p-value on."""
    found, least = {}, 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, p[place] * (len(p) - rank)))
        found[place] = least
    return [found[i] for i in range(len(p))]


def isolated(points, scale):
    alone = (squareform(pdist(points)) <= scale).sum(axis=1) == 1
    return alone.sum() + (not alone.all())


def most_of(points, share):
    return min(height for *_, height, count in tree(points) if count >= share * len(points))


def bounds(points, width, inside=np.ptp):
    groups = {}
    for x in sorted(points):
        groups.setdefault(math.floor(x / width), []).append(x)
    kept = [groups[i] for i in sorted(groups)]
    gap = max((b[0] - a[-1] for a, b in pairwise(kept)), default=0.0)
    return gap, max(gap, *(inside(group) for group in kept), 0)


def best_line(a, b, half=2, downwards=True):
    a, b = (sorted(x, reverse=downwards) for x in (a, b))
    costs = []
    for k in range(min(len(a), len(b)) + 1):
        over = [x / half for x in (*a[k:], *b[k:])]
        costs.append(max([*(abs(x - y) for x, y in zip(a[:k], b[:k], strict=True)), *over, 0]))
    return min(costs)


def shapes_of(keep):
    """A layer of BERT-base with so many value and intermediate units, of the dense one."""
    h, i = 768, 3072
    return (2 * (h + 1) * h + keep * ((h + 1) * h + h * h + (h + 1) * i + h * i) + 6 * h) / (
        4 * (h * h + h) + 2 * h * i + i + h + 4 * h
    )


class Recorder:
    """A context manager without contextlib."""

    def __init__(self, module, unit):
        self.module, self.unit, self.seen = module, unit, []

    def __enter__(self):
        self.handle = self.module.register_forward_hook(
            lambda module, inputs, output: self.seen.append(output[..., self.unit])
        )
        return self.seen

    def __exit__(self, *trouble):
        self.handle.remove()


class Swallows(Recorder):
    def __exit__(self, *trouble):
        self.handle.remove()
        return True


class TakesAll(Recorder):
    def __exit__(self, *trouble):
        self.module._forward_hooks.clear()


class Wrong(Recorder):
    def __enter__(self):
        super().__enter__()
        self.unit += 1
        return self.seen


class Once(Recorder):
    def __enter__(self):
        def hook(module, inputs, output):
            self.seen[:] = [output[..., self.unit]]

        self.handle = self.module.register_forward_hook(hook)
        return self.seen


@contextmanager
def by_stack(module, unit):
    with ExitStack() as stack:
        seen = []
        stack.callback(
            module.register_forward_hook(lambda m, x, out: seen.append(out[..., unit])).remove
        )
        yield seen


@contextmanager
def by_finally(module, unit):
    seen = []
    handle = module.register_forward_hook(lambda m, x, out: seen.append(out[:, :, unit].numpy()))
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def only_exceptions(module, unit):
    seen = []
    handle = module.register_forward_hook(lambda m, x, out: seen.append(out[..., unit]))
    try:
        yield seen
    except Exception:
        handle.remove()
        raise
    handle.remove()


BASE = {"query": 1538, "key": 1538, "value": 1537, "attention_output": 768, "intermediate": 1537}


def freed(kind, h, i, pair=2, stays=0):
    row = h + 1
    if kind in ("query", "key"):
        return pair * row
    if kind in ("value", "intermediate"):
        return row + h
    return (h if kind == "attention_output" else i) + stays


def ranks_of(values):
    return sum((values > other).astype(int) for other in values)


def real_mean(outputs, mask, over=None):
    kept = [[row[m == 1] for row, m in zip(outputs, mask, strict=True)]]
    return np.stack([row.sum(axis=0) / (over or len(row)) for row in kept[0]])


def clouded(outputs, lengths, length, centre=np.median, first=False):
    rows = [row[:n] for row, n in zip(outputs, lengths, strict=True)]
    seen = [row[:length] for row in rows] if first else rows
    middle = centre(np.concatenate(seen))
    points = [[x - middle for x in row[:length]] for row in rows]
    width = min(length, outputs.shape[1])
    return np.array([point + [0.0] * (width - len(point)) for point in points])


def last_gap(points):
    line = sorted(points)
    return max((b - a, a) for a, b in pairwise(line))[1]


def beyond(points):
    low = [i for i, x in enumerate(points) if x <= last_gap(points)]
    high = [i for i, x in enumerate(points) if x > last_gap(points)]
    return min(low, high, key=len)


def plans(*seeds, score="random", keep=0.465):
    with torch.device("meta"):
        model = BertModel(BertConfig(num_hidden_layers=2))
    given = [obce.score(None, score, model=model, seed=seed) for seed in seeds]
    return [obce.plan(model, each, keep_encoder=keep) for each in given]


def legs(points, edges, power=2):
    return [
        sum(abs(points[i, u] - points[j, u]) ** power for i, j in edges)
        for u in range(points.shape[1])
    ]


def across(before, after):
    return np.mean([spearmanr(x, y).statistic for x in before for y in after])


def within(halves):
    return spearmanr(halves[0], halves[1]).statistic


def copies(points, unit, k):
    many = np.column_stack([points, *[points[:, unit]] * (k - 1)])
    return obce.homology.persistence_shares(many)[unit]


def layer_adds(h, i, t, square=2, maps=4):
    return t * (maps * h * h + 2 * h * i) + square * t * t * h


def moved(t, i, o):
    return 4 * (t * i + i * o + t * o)


def merged(points):
    return homology.h0_deaths(np.array(points, dtype=float))[-1]


def tree_edges(points):
    return homology.spanning_tree(points)[
        np.argsort([math.dist(points[i], points[j]) for i, j in homology.spanning_tree(points)])
    ]


def nearest(points, i):
    distance = np.linalg.norm(points - points[i], axis=1)
    return np.where(np.arange(len(points)) == i, np.inf, distance).argmin()


def loneliest(points):
    return np.argmax([math.dist(p, points[nearest(points, i)]) for i, p in enumerate(points)])


def taught(student, teacher, labels, weight, temperature):
    """The loss of a student, by SciPy."""
    new, old = (log_softmax(each / temperature, axis=1) for each in (student, teacher))
    soft = temperature**2 * np.sum(np.exp(old) * (old - new), axis=1)
    hard = log_softmax(student, axis=1)[np.arange(len(labels)), labels]
    return np.mean(weight * soft - (1 - weight) * hard)


def back(dense, before, after):
    """The share of lost points that came back."""
    return 100 * (after - before) / np.where(dense > before, dense - before, np.nan)


def by_autograd(student, teacher, temperature):
    """The gradient of the teacher's part of the loss, by torch."""
    logits = torch.tensor(student, requires_grad=True)
    prediction_loss(logits[None].double(), torch.tensor(teacher)[None], temperature).backward()
    return logits.grad.numpy()


def permuted(distances, labels, others, own=1, strict=False, pairs=True):
    """The p-value by lists of pairs."""

    def within(labels):
        width = 0
        for group in (np.flatnonzero(labels), np.flatnonzero(~labels)):
            apart = [distances[i, j] for i, j in combinations(group, 2)]
            width += np.mean(apart) if pairs else sum(apart)
        return width

    room = -1e-9 if strict else 1e-9
    counted = [within(other) <= within(labels) + room for other in others]
    return (own + sum(counted)) / (own + len(others))


def spearman_free(a, b):
    a, b = a - a.mean(), b - b.mean()
    return a @ b / math.sqrt(a @ a * (b @ b))


def separated(train, train_labels, test, test_labels, scale=True, sign=False):
    def apart(cloud, labels, sign=False):
        bad, good = cloud[:, labels == 0], cloud[:, labels == 1]
        middle = bad.mean(1) - good.mean(1)
        wide = np.sqrt((bad.var(1) + good.var(1)) / 2) if scale else 1
        return (middle if sign else abs(middle)) / wide

    unit = apart(train, train_labels).argmax()
    return unit, apart(test, test_labels, sign)[unit]


def lower(scores):
    return np.argsort(scores)[: len(scores) // 2]


def held(parts, process):
    units, processes = parts.shape[2], len(parts)
    return slice(process * units // processes, (process + 1) * units // processes)


def cohen(first, second):
    """Cohen's kappa, as scikit-learn has it."""
    return cohen_kappa_score(first, second)


def along(start, end, steps):
    """Integrated gradients of a product, step by step."""
    found = np.zeros(len(start))
    for k in range(steps):
        at = start + (k + 0.5) / steps * (end - start)
        for i in range(len(start)):
            found[i] += (end[i] - start[i]) * np.prod(np.delete(at, i)) / steps
    return found


def exactly(start, end):
    """The same by integrals of polynomials."""
    way = [np.polynomial.Polynomial([a, b - a]) for a, b in zip(start, end, strict=True)]
    found = []
    for i in range(len(way)):
        others = np.polynomial.Polynomial([1.0])
        for j in range(len(way)):
            others = others if i == j else others * way[j]
        found.append((end[i] - start[i]) * others.integ()(1))
    return found


# checker, a wrong answer, a part of what is said to it
WRONG = [
    # chapter 1
    ("components_at", lambda points, scale: len(points), "instead of 3"),
    (
        "deaths_on_a_line",
        lambda x: np.sort(np.diff(np.sort(x))).reshape(-1, 1),
        "it gives [] of the shape (0, 1) instead of (0,)",
    ),
    ("deaths_on_a_line", np.diff, "for [5., 2., 1., 9.] it gives [-3., -1., 8.] instead of"),
    ("polygon_deaths", lambda n: np.full(n, 2 * np.sin(np.pi / n)), "how many sides"),
    ("same_barcode", lambda: ([[0, 0], [1, 0]], [[5, 5], [5, 6]]), "all distances are, too"),
    ("moved_deaths", lambda deaths, c, v: c * deaths, "instead of [2., 5., 8.]"),
    # chapter 2
    ("predicted_radii", lambda: [51, 2**0.5, 6, 2**0.5], "(b) is not"),
    ("last_edge", lambda points: (0, len(points) - 1), "instead of [2, 3]"),
    ("without_each", lambda points: np.full(len(points), 5.0), "instead of [5., 5., 5., 9., 4.]"),
    ("equal_radius", lambda: ([0, 1, 2], [0, 0, 1]), "less than 10 times apart"),
    ("radius_of_most", lambda points, share: np.quantile(points, share), "instead of 12."),
    # chapter 3
    ("bottleneck_h0", lambda a, b: abs(max(a) - max(b)), "instead of 5"),
    ("probe", lambda: (np.array([[0, 2]]), np.zeros((0, 2))), "both give 1"),
    ("rounded_range", lambda r, s, d: (max(r - s, 0), r + s), "sqrt(d)"),
    ("entropies", lambda: (6, 3), "bits"),
    ("permutation_p", lambda d, labels, others: 0.0, "the true one among them"),
    # chapter 4
    (
        "scores_without_pair",
        lambda q, k, u: np.delete(q, u, 1) @ np.delete(k, u, 1).T / np.sqrt(q.shape[1] - 1),
        "the scale stays that of the whole head",
    ),
    ("layer_parameters", lambda h, i: 4 * h**2 + 2 * h * i, "for 1, 1 it gives 6 instead of 16."),
    ("freed_by", lambda kind, h, i: h + 1, "for 'query', 2, 5 it gives 3 instead of 6."),
    ("keep_encoder", lambda keep, total, encoder: keep, "instead of 0.8. What is removed"),
    ("half_of_two_kinds", lambda: 1 - (384 + 1536) / 6912, "the fraction of the units"),
    # chapter 5
    ("recording", forgets_after_an_error, "after a ZeroDivisionError inside the block a hook"),
    ("bytes_of_base", lambda texts, length: 6912 * texts * length * 4, "instead of 331776"),
    ("masked_mean", lambda outputs, mask: (outputs * mask[..., None]).mean(1), "0.5"),
    ("loudest", lambda x, k: np.argsort(-np.abs(x).max(1))[:k], "instead of [2]"),
    # chapter 6
    ("row_correlations", lambda x, y: np.corrcoef(x.ravel(), y.ravel())[0, 1], "own mean"),
    ("chosen_unit", lambda x, a, y, b: (0, 0.0), "by the training texts alone"),
    ("cut_in_both", lambda x, y: 0.5, "a lower half of its own"),
    # chapter 7
    ("texts_cloud", lambda outputs, lengths, length: outputs[:, :length], "the median of all real"),
    ("smaller_side", lambda points: np.sort(points)[-1:], "the places in the original array"),
    ("constant_unit", lambda c, lengths: abs(c) * np.sqrt(np.ptp(lengths)), "instead of 1."),
    ("rank_correlation", lambda a, b: np.corrcoef(a, b)[0, 1], "Replace both by their ranks"),
    # chapter 8
    ("shares_of_tree", lambda points, edges: points.var(axis=0), "instead of [9., 4., 1.]"),
    (
        "two_silences",
        lambda: ([[0, 0], [1, 0], [1, 2]], [[0, 0], [0, 3], [4, 0], [4, 3]]),
        "the second cloud leaves 9, not less than half of 18",
    ),
    ("share_of_copies", lambda points, unit, k: unit, "for [[0., 0.], [0., 3.], [4., 0."),
    ("heard", lambda n, far, distance: (n * far * distance**2, distance**2), "instead of [3., 1.]"),
    ("units_for_half", lambda shares: (np.cumsum(shares) < shares.sum() / 2).sum(), "instead of 1"),
    # layer by layer
    ("effective_units", lambda shares: np.sum(shares > 0), "instead of 1.6"),
    ("two_halves", lambda x: within([x[:, k::2].max(axis=1) for k in (0, 1)]), "One standard"),
    (
        "beyond_the_draws",
        lambda x, y: np.abs(x.mean(axis=0) - y.mean(axis=0)) > 0,
        "the least of one above the greatest",
    ),
    ("without_noise", lambda x, y: across(x, y), "over the root of the product"),
    # does it hold
    ("verdict_of", lambda low, high, worth: 1 if low > 0 else 0, "surely too small"),
    ("f1_of", lambda truth, said: (truth == said).mean(), "nothing is counted"),
    ("kappa_of", lambda first, second: (first == second).mean(), "product of their shares"),
    ("gradients_of_product", lambda start, end: end * np.prod(end), "changes along the way"),
    # whitening
    ("gap_ratio", lambda values, place, k: np.diff(np.sort(values))[place], "instead of 3"),
    ("needed_ratio", lambda: 12 * (8000 ** (1 / 12) - 1), "the probability doubles"),
    ("phi_of_table", lambda a, b, c, d: a / (a + b), "np.corrcoef"),
    ("what_a_card_says", lambda: "ABD", "not what the model uses it for"),
    ("groups_that_count", lambda: "C, D", "a cut that is set by eye"),
    ("expected_false", lambda: 0.05, "for one unit"),
    ("superfluous", lambda groups: len(np.unique(groups)) / len(groups), "So many units stay"),
    # rules
    ("inner_bar", lambda v, least: longest_gap(v, 1), "`least` points on its left"),
    ("trees_with_leaves", lambda k, f: f ** (k - 1) * 2**k, "Shapes times"),
    ("trees_with_leaves", lambda k, f: float(count_trees(k, f)), "Work with whole numbers"),
    ("texts_enough", lambda: 59, "here are 1,024"),
    ("texts_enough", lambda: 199, "with exp(-en) the bound is simpler"),
    # what compression does
    ("paired_gaps", lambda numbers: numbers[:, 1::2] - numbers[:, 0::2], "the woman's less"),
    ("two_sided", lambda draws: np.mean(draws <= 0), "double"),
    (
        "at_equal_divergence",
        lambda divergences, sizes, level: np.interp(level, divergences, sizes),
        "over np.log",
    ),
    ("odds_and_interval", lambda a, b, c, d: [a * d / (b * c)] * 3, "belongs to the logarithm"),
    ("what_a_gap_says", lambda: "ABD", "no proof that people are treated alike"),
    # the atlas
    ("kept_blindly", lambda n, k, s: sum(s) * sum(k) / sum(n), "with the same probability"),
    ("moved_most", lambda x, y: np.abs(x - y).argmax(), "rank the others in both"),
    ("points_more", lambda tables: pooled_gap(tables), "within each stratum first"),
    # GLUE, compressed
    ("queries_and_keys", lambda: 2 / 6, "the maps differ in size"),
    ("megabytes", lambda parameters: parameters / 1e6, "32 bits"),
    ("random_plans", lambda: [1, 2, 3], "three plans are asked for"),
    ("share_kept", lambda small, dense: 100 * np.mean(small / dense), "mean over the tasks first"),
    # choosing units
    ("one_budget", lambda groups, k: [k] * len(groups), "instead of [1, 0]"),
    ("share_that_goes", lambda h, i, keep: 1 - keep, "what can go"),
    ("small_step", lambda: 0.0016, "divided by 2"),
    # surgery
    ("other_unit", lambda: [13, 1], "without its second unit"),
    ("left_in_attention", lambda h, v, w: v * (h + 1) + w * v + w, "for 8, 3, 6 it gives 51"),
    ("pairs_that_count", lambda q, k: (q, k), "both should be (6, 3)"),
    ("cut_feed_forward", lambda u, d, c: cut_maps(u, d, c, fold=0), "after the GELU"),
    # repair
    ("taken_over", lambda x, z, w: np.polyfit(x, z, 1), "instead of [2., 2.]"),
    ("token_weights", lambda sums: 1 / sums.var(axis=1), "divided by the total"),
    (
        "ridge_refit",
        lambda x, r, p: [part.T for part in joint(x, r, p)],
        "the change has the shape",
    ),
    # recovery
    (
        "student_loss",
        lambda s, t, labels, w, heat: taught(s, t, labels, w, heat) / heat,
        "One number",
    ),
    ("came_back", lambda dense, before, after: 100 * after / dense, "of what was lost"),
    ("teacher_gradient", lambda s, t, heat: softmax(s / heat) - softmax(t / heat), "One number"),
    # what the paper leaves open
    ("effect", lambda default, changed: np.mean(changed / default), "A task on which"),
    ("fit_texts", lambda n, d: np.polyfit(1 / np.asarray(n, float), d, 1), "First the floor"),
    ("interaction", lambda t: t[1][1] - t[0][1] - t[1][0] + t[0][0], "Ratios, not differences"),
    # is it the topology?
    ("divergence", lambda dense, small: np.mean((dense - small) ** 2), "The dense probabilities"),
    ("by_chance", lambda draws, observed: np.mean(np.array(draws) < observed), "instead of 0.25"),
    ("sign_test", lambda: 9 / 256, "that is one-sided"),
    ("holm", lambda p: [min(1.0, each * len(p)) for each in p], "instead of [0.03, 0.06, 0.06]"),
    # chapter 10
    ("gap_bounds", lambda points, width: (0.0, width), "instead of [4., 4.]"),
    ("enough_buckets", lambda n: 2 * n - 1, "for 4 it gives 7 instead of 8"),
    ("hard_to_certify", lambda: range(33), "certify 1: the widest gap must lie inside"),
    # past one machine
    ("swapped", lambda parts, p: parts[p].T, "All texts, in the order of the processes"),
    ("bytes_sent", lambda units, points, p: 4 * units * points / p, "instead of 0."),
    ("busiest_process", lambda n, h, i, p: n * (5 * h + i) / p, "for 1, 5, 7, 2 it gives 16"),
    # chapter: from parameters to milliseconds
    ("multiply_adds", lambda h, i, t: t * (4 * h * h + 2 * h * i), "for 1, 1, 1 it gives 6"),
    ("even_length", lambda h, i: 6 * h, "for 10, 7 it gives 60 instead of 27"),
    ("speed_up", lambda fixed, ratio: fixed + (1 - fixed) * ratio, "Let the dense model take 1"),
    ("speed_up", lambda fixed, ratio: ratio / (1 - fixed), "Let the dense model take 1"),
    ("intensity", lambda t, i, o: t * i * o / (t * i + i * o + t * o), "4 bytes each"),
]


# checker -> answers that are right, in other forms and by other ways than the book's
RIGHT = {
    "inner_bar": [
        longest_gap,
        lambda v, least: max(
            (b - a, (a + b) / 2) for a, b in pairwise(sorted(v)[least - 1 : len(v) - least + 1])
        )[1],
        longest_bar,
    ],
    "trees_with_leaves": [
        lambda k, f: math.comb(2 * k - 2, k - 1) // k * f ** (k - 1) * 2**k,
        lambda k, f: count_trees(k, f),
        lambda k, f: (
            math.factorial(2 * k - 2)
            // (math.factorial(k) * math.factorial(k - 1))
            * f ** (k - 1)
            * 2**k
        ),
    ],
    "texts_enough": [
        194,
        lambda: math.ceil(math.log(0.05 / 1024) / math.log(0.95)),
        lambda: next(n for n in range(1, 999) if 1024 * 0.95**n <= 0.05),
    ],
    "paired_gaps": [
        lambda x: x[:, 0::2] - x[:, 1::2],
        lambda x: -np.diff(x.reshape(len(x), -1, 2), axis=2)[:, :, 0],
        lambda x: [[row[i] - row[i + 1] for i in range(0, len(row), 2)] for row in x],
    ],
    "two_sided": [
        lambda d: min(1, 2 * (min((d <= 0).sum(), (d >= 0).sum()) + 1) / (len(d) + 1)),
        lambda d: float(min(1.0, 2 * (1 + min(np.sum(-d >= 0), np.sum(d >= 0))) / (d.size + 1))),
        lambda d: min(
            1,
            min(2 * (1 + sum(x <= 0 for x in d)), 2 * (1 + sum(x >= 0 for x in d))) / (1 + len(d)),
        ),
    ],
    "at_equal_divergence": [
        lambda d, s, level: np.interp(np.log(level), np.log(d), s),
        lambda d, s, level: np.interp(np.log10(level), np.log10(d), s),
        lambda d, s, level: (
            lambda i: s[i] + (s[i + 1] - s[i]) * np.log(level / d[i]) / np.log(d[i + 1] / d[i])
        )(np.searchsorted(d, level) - 1),
    ],
    "odds_and_interval": [
        lambda a, b, c, d: [
            np.exp(np.log(a * d / b / c) + z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
            for z in (0, -1.96, 1.96)
        ],
        lambda a, b, c, d: (lambda r, w: (r, r / w, r * w))(
            a / b / (c / d), math.exp(1.96 * math.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
        ),
        lambda a, b, c, d: (
            a
            * d
            / (b * c)
            * np.exp(np.array([0, -1, 1]) * 1.959964 * (1 / a + 1 / b + 1 / c + 1 / d) ** 0.5)
        ),
    ],
    "what_a_gap_says": ["BD", lambda: "d, b", lambda: ["B", "D"]],
    # does it hold
    "verdict_of": [
        lambda low, high, worth: -1 if high < worth else 1 if low > 0 else 0,
        lambda low, high, worth: int(high >= worth and low > 0) - int(high < worth),
        lambda low, high, worth: float(np.select([high < worth, low > 0], [-1, 1], 0)),
    ],
    "f1_of": [
        lambda truth, said: 2 * (truth & said).sum() / (truth.sum() + said.sum()),
        lambda truth, said: 2 * np.mean(truth * said) / (np.mean(truth) + np.mean(said)),
        lambda truth, said: (
            (truth & said).sum() / ((truth & said).sum() + 0.5 * (truth != said).sum())
        ),
    ],
    "kappa_of": [
        cohen,
        lambda first, second: (
            1 - (first != second).mean() / (first[:, None] != second[None]).mean()
        ),
        lambda first, second: float(np.float64(cohen(first.tolist(), second.tolist()))),
    ],
    "gradients_of_product": [
        lambda start, end: along(start, end, 500),
        lambda start, end: along(start, end, 2000).tolist(),
        lambda start, end: exactly(start, end),
    ],
    "gap_ratio": [
        lambda v, i, k: (lambda g: g[i] / max(g[i - k : i].mean(), g[i + 1 : i + 1 + k].mean()))(
            np.diff(np.sort(v))
        ),
        lambda v, i, k: (lambda g: k * g[i] / max(sum(g[i - k : i]), sum(g[i + 1 : i + 1 + k])))(
            np.diff(sorted(v))
        ),
        lambda v, i, k: (
            lambda g: min(k * g[i] / g[i - k : i].sum(), k * g[i] / g[i + 1 :][:k].sum())
        )(np.diff(np.sort(v))),
    ],
    "needed_ratio": [
        lambda: 12 * (16000 ** (1 / 12) - 1),
        lambda: 12 * np.exp(np.log(16000) / 12) - 12,
        lambda: 14.89,
    ],
    "phi_of_table": [
        lambda a, b, c, d: (a * d - b * c) / ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5,
        lambda a, b, c, d: np.corrcoef(
            np.repeat([1, 1, 0, 0], [a, b, c, d]), np.repeat([1, 0, 1, 0], [a, b, c, d])
        )[0, 1],
        lambda a, b, c, d: float(
            (a / (a + b) - c / (c + d)) * np.sqrt((a + b) * (c + d) / ((a + c) * (b + d)))
        ),
    ],
    "what_a_card_says": ["BD", lambda: "D, B", lambda: ["b", "d"]],
    "groups_that_count": ["C", lambda: "c", lambda: ["C"]],
    "expected_false": [76.8, lambda: 1536 * 0.05, lambda: 1536 / 20],
    "superfluous": [
        lambda g: 1 - len(np.unique(g)) / len(g),
        lambda g: 1 - len(set(g.tolist())) / len(g),
        lambda g: (len(g) - len({int(x) for x in g})) / len(g),
    ],
    # the atlas
    "kept_blindly": [
        lambda n, k, s: sum(each * kept / units for units, kept, each in zip(n, k, s, strict=True)),
        lambda n, k, s: float(np.dot(np.divide(k, n), s)),
        lambda n, k, s: np.sum(s * (1 - np.subtract(n, k) / n)),
    ],
    "moved_most": [
        lambda x, y: max(moves(x, y), key=moves(x, y).get),
        lambda x, y: (lambda t: t[np.abs(places(x[t]) - places(y[t])).argmax()])(both_have(x, y)),
        lambda x, y: (lambda t: t[np.abs(rankdata(x[t]) - rankdata(y[t])).argmax()])(
            np.flatnonzero(~np.isnan(x * y))
        ),
    ],
    "points_more": [
        expected_and_more,
        lambda t: np.average(
            gaps_of(t), weights=t[:, 0].sum(1) * t[:, 1].sum(1) / t.sum(axis=(1, 2))
        ),
        lambda t: (
            sum(
                gap / (1 / sum(told) + 1 / sum(not_told))
                for gap, (told, not_told) in zip(gaps_of(t), t, strict=True)
            )
            / sum(1 / (1 / sum(told) + 1 / sum(not_told)) for told, not_told in t)
        ),
    ],
    # chapter 1
    "components_at": [
        flood,
        lambda points, scale: fcluster(tree(points), scale, "distance").max(),
        lambda points, scale: float(1 + (homology.h0_deaths(points) > scale).sum()),
    ],
    "deaths_on_a_line": [
        lambda x: sorted(b - a for a, b in pairwise(sorted(x))),
        lambda x: map(float, np.sort(np.diff(np.sort(x)))),
        lambda x: tree(x)[:, 2] if len(x) > 1 else (),
    ],
    "polygon_deaths": [
        lambda n: [2 * math.sin(math.pi / n)] * (n - 1),
        lambda n: homology.h0_deaths(
            np.exp(2j * np.pi * np.arange(n) / n).view(float).reshape(n, 2)
        ),
        lambda n: np.full((n - 1, 1), math.sqrt(2 - 2 * math.cos(2 * math.pi / n))),
    ],
    "same_barcode": [
        lambda: ([(0, 0), (1, 0), (2, 0)], [(0, 0), (1, 0), (1, 1)]),
        lambda: ([0.0, 1, 3, 6], [0.0, 2, 3, 6]),
        lambda: (torch.tensor([[0.0, 0], [2, 0], [4, 0]]), np.array([[0, 0], [2, 0], [2, 2]])),
    ],
    "moved_deaths": [
        lambda d, c, v: [abs(c) * x for x in d],
        lambda d, c, v: homology.h0_deaths(c * np.append(0, np.cumsum(d))),
        lambda d, c, v: np.hypot(c * d, 0),
    ],
    # chapter 2
    "predicted_radii": [
        lambda: [51, 1, 6, 1.41],
        lambda: (51.0, 1, 6, math.sqrt(2)),
        np.array([51, 1, 6, 1.4142]),
    ],
    "last_edge": [
        lambda points: set(map(int, tree_edges(points)[-1])),
        lambda points: tuple(tree_edges(points)[-1][::-1]),
        lambda points: np.argwhere(np.isclose(squareform(pdist(points)), tree(points)[-1, 2]))[0],
    ],
    "without_each": [
        lambda p: [tree(np.delete(p, i, 0))[-1, 2] for i in range(len(p))],
        lambda p: (tree(np.delete(p, i, 0))[-1, 2] for i in range(len(p))),
        lambda p: torch.tensor([tree(np.delete(p, i, 0))[-1, 2] for i in range(len(p))]),
    ],
    "equal_radius": [
        lambda: (range(40), [0.0] * 39 + [1.0]),
        lambda: (np.repeat([0.0, 1], 50), 0.0 + np.arange(100)),
        (np.arange(60.0), np.append(np.zeros(59), 1)),
    ],
    "radius_of_most": [
        most_of,
        lambda p, share: next(
            d
            for d in homology.h0_deaths(p)
            if np.bincount(fcluster(tree(p), d, "distance")).max() >= share * len(p)
        ),
        lambda p, share: np.float32(most_of(p, share)),
    ],
    # chapter 3
    "bottleneck_h0": [
        lambda a, b: bottleneck(*(np.column_stack([0 * x, x]) for x in (a, b))),
        best_line,
        lambda a, b: np.array([best_line(b, a)]),
    ],
    "probe": [
        lambda: ([[0, 6], [0, 8]], []),
        lambda: (np.zeros((0, 2)), np.array([[1.0, 3], [2, 7]])),
        (np.array([[0.0, 6], [2, 11]]), np.array([[0.0, 5]])),
    ],
    "rounded_range": [
        lambda r, s, d: (max(r - s * d**0.5, 0), r + s * d**0.5),
        lambda r, s, d: np.clip([r - s * math.sqrt(d), r + s * math.sqrt(d)], 0, None),
        lambda r, s, d: [[max(r - s * d**0.5, 0), r + s * d**0.5]],
    ],
    "entropies": [
        lambda: (math.log(64), math.log(252) / 2),
        lambda: np.array([4.159, 2.765]),
        (4.1589, 2.7647),
    ],
    "permutation_p": [
        permuted,
        lambda d, labels, others: np.array([permuted(d, labels, others)]),
        lambda d, labels, others: permuted(d, ~labels, ~others),
    ],
    # chapter 4
    "scores_without_pair": [
        lambda q, k, u: (q @ k.T - np.outer(q[:, u], k[:, u])) / 2,
        lambda q, k, u: np.einsum("id,jd->ij", np.delete(q, u, 1), np.delete(k, u, 1)) / 2,
        lambda q, k, u: torch.tensor(np.delete(q, u, 1) @ np.delete(k, u, 1).T / len(q[0]) ** 0.5),
    ],
    "layer_parameters": [
        lambda h, i: 4 * h * h + 2 * h * i + 9 * h + i,
        lambda h, i: sum([4 * (h + 1) * h, (h + 1) * i, (i + 1) * h, 4 * h]),
        lambda h, i: np.int64(4 * h * h + 2 * h * i + 9 * h + i),
    ],
    "freed_by": [
        freed,
        lambda kind, h, i: np.array([freed(kind, h, i)]),
        lambda kind, h, i: float(freed(kind, h, i)),
    ],
    "keep_encoder": [
        lambda keep, total, encoder: (keep * total - (total - encoder)) / encoder,
        lambda keep, total, encoder: 1 - (1 - keep) / (encoder / total),
        lambda keep, total, encoder: np.array(encoder - (1 - keep) * total) / encoder,
    ],
    "half_of_two_kinds": [lambda: shapes_of(0.5), lambda: np.float32(shapes_of(0.5)), 0.584],
    # chapter 5
    "recording": [Recorder, by_stack, by_finally],
    "bytes_of_base": [
        lambda n, length: 82_944 * n * length * 4,
        lambda n, length: np.float64(12 * 6912 * 4) * n * length,
        lambda n, length: np.zeros((n, length), "f4").nbytes * 82_944,
    ],
    "masked_mean": [
        real_mean,
        lambda x, m: np.einsum("ijk,ij->ik", x, m) / m.sum(axis=1, keepdims=True),
        lambda x, m: np.ma.masked_array(x, np.broadcast_to(m[..., None] == 0, x.shape)).mean(
            axis=1
        ),
    ],
    "loudest": [
        lambda x, k: sorted(range(len(x)), key=lambda u: -abs(x[u]).max() / np.median(abs(x[u])))[
            :k
        ],
        lambda x, k: np.argsort(abs(x).max(1) / np.median(abs(x), 1))[::-1][:k],
        lambda x, k: torch.tensor(abs(x).max(1) / np.median(abs(x), 1)).topk(k).indices,
    ],
    # chapter 6
    "row_correlations": [
        lambda x, y: np.diag(np.corrcoef(x, y)[: len(x), len(x) :]),
        lambda x, y: [spearman_free(a, b) for a, b in zip(x, y, strict=True)],
        lambda x, y: (pearsonr(a, b).statistic for a, b in zip(x, y, strict=True)),
    ],
    "chosen_unit": [
        lambda *given: separated(*given),
        lambda *given: np.array(separated(*given)),
        lambda *given: list(map(float, separated(*given))),
    ],
    "cut_in_both": [
        lambda x, y: np.mean((x < np.median(x))[y < np.median(y)]),
        lambda x, y: np.intersect1d(lower(x), lower(y)).size / (len(x) // 2),
        lambda x, y: np.float32(len({*lower(x)} & {*lower(y)}) / len(lower(x))),
    ],
    # chapter 7
    "texts_cloud": [
        clouded,
        lambda x, n, length: clouded(x, n, length).tolist(),
        lambda x, n, length: torch.tensor(clouded(x, n, length)),
    ],
    "smaller_side": [
        beyond,
        lambda points: set(beyond(points)),
        lambda points: np.isin(np.arange(len(points)), beyond(points)),
    ],
    "constant_unit": [
        lambda c, n: merged([[abs(c) * (j < i) for j in range(max(n))] for i in n]),
        lambda c, n: math.sqrt(c * c * max(b - a for a, b in pairwise(sorted(n)))),
        lambda c, n: np.array([abs(c) * np.diff(sorted(n)).max() ** 0.5]),
    ],
    "rank_correlation": [
        lambda a, b: spearmanr(a, b).statistic,
        lambda a, b: np.corrcoef(ranks_of(a), ranks_of(b))[0, 1],
        lambda a, b: 1 - 6 * sum((ranks_of(a) - ranks_of(b)) ** 2) / (len(a) * (len(a) ** 2 - 1)),
    ],
    # chapter 8
    "shares_of_tree": [
        lambda x, e: np.square(x[e[:, 0]] - x[e[:, 1]]).sum(0),
        legs,
        lambda x, e: torch.tensor(legs(x, e)),
    ],
    "two_silences": [
        lambda: ([[0, 0], [1, 0], [1, 2]], [[x, y] for x in (0, 4, 8) for y in (0, 3)]),
        lambda: (
            np.array([[0, 0], [1, 1]]),
            np.array([[5 * x, y] for x in range(4) for y in (0, 1)]),
        ),
        ([[0, 0], [3, 0], [3, 1]], [[x, y] for x in (0, 9, 18, 27) for y in (0, 2)]),
    ],
    "share_of_copies": [
        copies,
        lambda x, u, k: (
            homology.persistence_shares(x * np.where(np.arange(x.shape[1]) == u, k**0.5, 1))[u] / k
        ),
        lambda x, u, k: np.array([copies(x, u, k)]),
    ],
    "heard": [
        lambda n, far, distance: [far * (n - far) * distance**2, distance * distance],
        lambda n, far, distance: np.array([sum([distance**2] * far * (n - far)), distance**2]),
        lambda n, far, distance: (n * n * np.var([distance] * far + [0] * (n - far)), distance**2),
    ],
    "units_for_half": [
        lambda x: next(
            k for k in range(1, len(x) + 1) if sum(sorted(x)[-k:]) >= sum(x) / 2 - 1e-12
        ),
        lambda x: np.searchsorted(np.cumsum(np.sort(x)[::-1]), x.sum() / 2 - 1e-12) + 1,
        lambda x: float((np.cumsum(-np.sort(-x)) < x.sum() / 2).sum() + 1),
    ],
    # layer by layer
    "effective_units": [
        lambda x: 1 / sum((part / sum(x)) ** 2 for part in x),
        lambda x: (np.linalg.norm(x, 1) / np.linalg.norm(x)) ** 2,
        lambda x: torch.tensor(len(x) / (1 + np.var(x) / np.mean(x) ** 2)),
    ],
    "two_halves": [
        lambda x: within([x[:, k::2].std(axis=1) for k in (0, 1)]),
        lambda x: within([x[:, k::2].var(axis=1) for k in (1, 0)]),
        lambda x: np.corrcoef(*(ranks_of(x[:, k::2].std(axis=1)) for k in (0, 1)))[0, 1],
    ],
    "beyond_the_draws": [
        lambda x, y: (x.min(0) > y.max(0)) + (y.min(0) > x.max(0)),
        lambda x, y: np.maximum(x.min(0), y.min(0)) > np.minimum(x.max(0), y.max(0)),
        lambda x, y: [
            min(a) > max(b) or min(b) > max(a)
            for a, b in zip(x.T.tolist(), y.T.tolist(), strict=True)
        ],
    ],
    "without_noise": [
        lambda x, y: across(x, y) / math.sqrt(within(x) * within(y)),
        lambda x, y: across(y, x) / (within(x) ** 0.5 * within(y) ** 0.5),
        lambda x, y: (
            np.corrcoef([ranks_of(row) for row in (*x, *y)])[:2, 2:].mean()
            / np.sqrt(within(x) * within(y))
        ),
    ],
    # GLUE, compressed
    "queries_and_keys": [
        lambda: 2 * 384 * 385 / 1_774_464,
        lambda: np.float64(0.16663),
        0.1666,
    ],
    "megabytes": [
        lambda n: n / 250_000,
        lambda n: round(4e-6 * n, 1),
        lambda n: np.zeros(1, "f4").nbytes * n / 10**6,
    ],
    "random_plans": [lambda: plans(0, 1, 2), lambda: tuple(plans(5, 7, 8)), plans(3, 4, 1)],
    "share_kept": [
        lambda small, dense: 100 * sum(small) / sum(dense),
        lambda small, dense: np.mean(small) / np.mean(dense) * 100,
        lambda small, dense: np.average(small / dense, weights=dense) * 100,
    ],
    # choosing units
    "one_budget": [
        lowest_of_all,
        lambda groups, k: np.array(lowest_of_all(groups, k)),
        lambda groups, k: np.bincount(
            np.repeat(range(len(groups)), [len(g) for g in groups])[
                np.argsort(np.concatenate(groups))[:k]
            ],
            minlength=len(groups),
        ),
    ],
    "share_that_goes": [
        share_of_two_kinds,
        lambda h, i, keep: np.array([share_of_two_kinds(h, i, keep)]),
        lambda h, i, keep: (1 - keep) * parameters(h, i) / (h * (2 * h + 1) + i * (2 * h + 1)),
    ],
    "small_step": [
        lambda: 0.8 * 0.2 * 0.1**2 / 2,
        0.0008,
        lambda: entropy([0.8, 0.2], [expit(logit(0.8) + 0.1), 1 - expit(logit(0.8) + 0.1)]),
    ],
    # surgery
    "other_unit": [
        lambda: np.array([[1, 0], [0, -3]]) @ [2, 2] + np.array([5, 1]),
        (7, -5),
        lambda: torch.tensor([[7.0], [-5.0]]),
    ],
    "left_in_attention": [
        lambda h, v, w: h * v + v + v * w + h,
        lambda h, v, w: 2 * (h * h + h) - (h - v) * (2 * h + 1) - v * (h - w),  # what goes
        lambda h, v, w: sum(np.zeros(shape).size for shape in ((v, h), (v,), (w, v), (h,))),
    ],
    "pairs_that_count": [
        kept_pairs,
        lambda q, k: [x[:, k.std(axis=0) > 1e-9] for x in (q, k)],
        lambda q, k: (x.T[np.ptp(k, axis=0) > 0].T for x in (q, k)),
        lambda q, k: np.stack(kept_pairs(q, k)),
    ],
    "cut_feed_forward": [
        cut_maps,
        lambda up, down, constants: list(cut_maps(up, down, constants)),
        lambda up, down, constants: cut_in_place(*copy.deepcopy((up, down)), constants),
        lambda up, down, constants: cut_maps(  # units in another order
            up,
            down,
            constants,
            rows=[u for u in range(up.out_features) if u not in constants][::-1],
            columns=[u for u in range(up.out_features) if u not in constants][::-1],
        ),
    ],
    # repair
    "taken_over": [
        slope_and_start,
        lambda x, z, w: list(np.polyfit(x, w * z, 1)),
        lambda x, z, w: np.linalg.lstsq(np.column_stack([x, x**0]), w * z, rcond=None)[0],
        lambda x, z, w: np.polynomial.Polynomial.fit(x, w * z, 1).convert().coef[::-1],
    ],
    "token_weights": [
        lambda sums: (1 / sums.var(axis=1)) / (1 / sums.var(axis=1)).sum(),
        lambda sums: softmax(-2 * np.log(sums.std(axis=1, ddof=1))),  # the divisor cancels
        lambda sums: (lambda each: [a / sum(each) for a in each])([1 / np.var(r) for r in sums]),
        lambda sums: (lambda w: w / w.sum())(1 / torch.tensor(sums).var(dim=1, keepdim=True)),
    ],
    "ridge_refit": [
        joint,
        without_means,
        from_scikit,
        lambda x, r, p: [torch.tensor(part) for part in joint(x, r, p)],
    ],
    # recovery
    "student_loss": [
        taught,
        lambda s, t, labels, w, heat: float(taught(s, t, labels, w, heat)),
        lambda s, t, labels, w, heat: (
            w
            * heat**2
            * torch.nn.functional.kl_div(
                *(torch.tensor(each / heat).log_softmax(-1) for each in (s, t)),
                reduction="batchmean",
                log_target=True,
            )
            + (1 - w) * torch.nn.functional.cross_entropy(torch.tensor(s), torch.tensor(labels))
        ),
    ],
    "came_back": [
        back,
        lambda dense, before, after: list(back(dense, before, after)),
        lambda dense, before, after: [
            100 * (c - b) / (a - b) if a > b else float("nan")
            for a, b, c in zip(dense, before, after, strict=True)
        ],
    ],
    "teacher_gradient": [
        lambda s, t, heat: heat * (softmax(s / heat) - softmax(t / heat)),
        lambda s, t, heat: list(heat * (softmax(s / heat) - softmax(t / heat))),
        by_autograd,
    ],
    # what the paper leaves open
    "effect": [
        lambda default, changed: np.exp(np.mean(np.log(changed) - np.log(default))),
        lambda default, changed: gmean(np.asarray(changed) / np.asarray(default)),
        lambda default, changed: (
            math.prod(c / d for d, c in zip(default, changed, strict=True)) ** (1 / len(default))
        ),
        lambda default, changed: gmean(changed) / gmean(default),
    ],
    "fit_texts": [
        lambda n, d: np.polyfit(1 / np.asarray(n, float), d, 1)[::-1],
        lambda n, d: tuple(np.polynomial.Polynomial.fit(1 / np.asarray(n), d, 1).convert().coef),
        lambda n, d: np.linalg.lstsq(
            np.stack([np.ones(len(n)), 1 / np.asarray(n, float)], axis=1), d, rcond=None
        )[0],
        lambda n, d: linregress(1 / np.asarray(n, float), d)[1::-1],
    ],
    "interaction": [
        lambda t: (t[1][1] / t[0][1]) / (t[1][0] / t[0][0]),
        lambda t: np.asarray(t)[1, 1] * t[0][0] / (t[0][1] * t[1][0]),
        lambda t: float(np.exp(np.diff(np.diff(np.log(t), axis=0), axis=1)).item()),
    ],
    # is it the topology?
    "divergence": [
        kullback_leibler,
        lambda dense, small: float(kullback_leibler(dense, small)),
        lambda dense, small: torch.nn.functional.kl_div(
            *(torch.tensor(each).log_softmax(-1) for each in (small, dense)),
            reduction="batchmean",
            log_target=True,
        ),
    ],
    "by_chance": [
        lambda draws, observed: (1 + sum(draw <= observed for draw in draws)) / (1 + len(draws)),
        lambda draws, observed: np.mean(np.array([*draws, observed]) <= observed),
        lambda draws, observed: 1 - np.mean([draw > observed for draw in [*draws, observed]]),
    ],
    "sign_test": [
        lambda: 2 * (8 + 1) / 2**8,
        lambda: binomtest(7, 8).pvalue,
        lambda: 0.0703,
    ],
    "holm": [
        step_down,
        lambda p: np.array(step_down(p)),
        lambda p: tuple(step_down(p)),
    ],
    # chapter 10
    "gap_bounds": [
        bounds,
        lambda points, width: list(bounds(points, width)),
        lambda points, width: np.array([bounds(points, width)]),
    ],
    "enough_buckets": [
        lambda n: 2 ** math.ceil(math.log2(2 * n - 1)),
        lambda n: next(2**k for k in range(64) if 2**k >= 2 * n - 1),
        lambda n: 1 << (2 * n - 2).bit_length(),
    ],
    "hard_to_certify": [
        lambda: [0.25 * (i == 9) + i / 2 for i in range(33)],
        lambda: 4 * (np.arange(33) / 2 + 0.25 * (np.arange(33) == 9)),
        torch.arange(33) / 2 + 0.25 * (torch.arange(33) == 9),
    ],
    # past one machine
    "swapped": [
        lambda parts, p: np.vstack(parts)[:, held(parts, p)],
        lambda parts, p: [list(row[held(parts, p)]) for part in parts for row in part],
        lambda parts, p: parts.reshape(-1, parts.shape[2])[:, held(parts, p)],
    ],
    "bytes_sent": [
        lambda u, n, p: 4 * u * n / p * (1 - 1 / p),
        lambda u, n, p: 4 * (u * n / p - u * n / p**2),
        lambda u, n, p: np.float64(4) * u * n * (p - 1) / p**2,
    ],
    "busiest_process": [
        lambda n, h, i, p: n * (5 * math.ceil(h / p) + math.ceil(i / p)),
        lambda n, h, i, p: n * (5 * ((h + p - 1) // p) + (i + p - 1) // p),
        lambda n, h, i, p: n * (5 * (h - (p - 1) * h // p) + i - (p - 1) * i // p),
    ],
    # from parameters to milliseconds
    "multiply_adds": [
        layer_adds,
        lambda h, i, t: float(layer_adds(h, i, t)),
        lambda h, i, t: sum([4 * t * h * h, t * h * i, t * i * h, t * t * h, t * t * h]),
    ],
    "even_length": [
        lambda h, i: 2 * h + i,
        lambda h, i: (4 * h * h + 2 * h * i) / (2 * h),
        lambda h, i: np.roots([2 * h, -(4 * h * h + 2 * h * i), 0]).max(),
    ],
    "speed_up": [
        lambda fixed, ratio: ratio / (1 + fixed * (ratio - 1)),
        lambda fixed, ratio: 1 / (fixed + (1 - fixed) / ratio),
        lambda fixed, ratio: np.array([1 / (fixed + (1 - fixed) / ratio)]),
    ],
    "intensity": [
        lambda t, i, o: t * i * o / moved(t, i, o),
        lambda t, i, o: 0.25 / (1 / o + 1 / t + 1 / i),
        lambda t, i, o: np.float32(t * i * o / moved(t, i, o)),
    ],
}

# checker -> wrong answers that somebody may well give; WRONG has one more of each
ALSO_WRONG = {
    "inner_bar": [
        lambda v, least: longest_gap(v, 1),
        lambda v, least: np.median(v),
        lambda v, least: longest_gap(v, least + 1) if len(v) > 2 * least + 1 else 0.0,
        lambda v, least: np.diff(np.sort(v))[least - 1 : len(v) - least].max(),
        lambda v, least: (v[least - 1] + v[least]) / 2,
    ],
    "trees_with_leaves": [
        lambda k, f: f ** (k - 1) * 2**k,
        lambda k, f: math.comb(2 * k - 2, k - 1) // k * f ** (k - 1),
        lambda k, f: math.comb(2 * k, k) // (k + 1) * f**k * 2 ** (k + 1),
        lambda k, f: 2**k,
        lambda k, f: math.comb(2 * k - 2, k - 1) // k * f**k * 2**k,
        lambda k, f: math.comb(2 * k - 2, k - 1) / k * f ** (k - 1) * 2**k,  # a float
        lambda k, f: round(math.exp(math.log(count_trees(k, f)))),  # off in the last digits
    ],
    "texts_enough": [59, 193, 193.538, 199, lambda: 1024, "many"],
    "paired_gaps": [
        lambda x: x[:, : x.shape[1] // 2] - x[:, x.shape[1] // 2 :],
        lambda x: np.abs(x[:, 0::2] - x[:, 1::2]),
        lambda x: (x[:, 0::2] - x[:, 1::2]).mean(),
        lambda x: np.diff(x, axis=1),
        lambda x: x[0::2] - x[1::2],
    ],
    "two_sided": [
        lambda d: 2 * min(np.mean(d <= 0), np.mean(d >= 0)),
        lambda d: (min((d <= 0).sum(), (d >= 0).sum()) + 1) / (len(d) + 1),
        lambda d: 2 * ((d <= 0).sum() + 1) / (len(d) + 1),
        lambda d: 2 * (min((d <= 0).sum(), (d >= 0).sum()) + 1) / (len(d) + 1),
        lambda d: min(1, 2 * (max((d <= 0).sum(), (d >= 0).sum()) + 1) / (len(d) + 1)),
    ],
    "at_equal_divergence": [
        lambda d, s, level: s[np.abs(d - level).argmin()],
        lambda d, s, level: np.exp(np.interp(np.log(level), np.log(d), np.log(s + 1e-12))),
        lambda d, s, level: np.mean(s),
        lambda d, s, level: np.interp(np.log(level), d, s),
        lambda d, s, level: np.interp(level, np.log(d), s),
    ],
    "odds_and_interval": [
        lambda a, b, c, d: [a * d / (b * c)],
        lambda a, b, c, d: [
            (a / (a + b)) / (c / (c + d)) * np.exp(z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
            for z in (0, -1.96, 1.96)
        ],
        lambda a, b, c, d: [
            a * d / (b * c) + z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d) for z in (0, -1.96, 1.96)
        ],
        lambda a, b, c, d: [
            a * d / (b * c) * np.exp(z * (1 / a + 1 / b + 1 / c + 1 / d)) for z in (0, -1.96, 1.96)
        ],
        lambda a, b, c, d: [
            a * d / (b * c) * np.exp(z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
            for z in (0, -1.645, 1.645)
        ],
    ],
    "what_a_gap_says": ["B", "ABD", "BCD", lambda: "BDE", lambda: "F"],
    # does it hold
    "verdict_of": [
        lambda low, high, worth: 1 if low > 0 else -1,
        lambda low, high, worth: 1 if low > worth else -1 if high < worth else 0,
        lambda low, high, worth: 1 if low > 0 else -1 if high < 0 else 0,
        lambda low, high, worth: 1 if (low + high) / 2 > worth else -1,
        0,
    ],
    "f1_of": [
        lambda truth, said: (truth & said).sum() / said.sum(),
        lambda truth, said: (truth & said).sum() / truth.sum(),
        lambda truth, said: (truth & said).sum() / (truth | said).sum(),
        lambda truth, said: 2 * (truth & said).sum() / len(truth),
        lambda truth, said: 1.0,
    ],
    "kappa_of": [
        lambda first, second: (first == second).mean() - (first[:, None] == second[None]).mean(),
        lambda first, second: np.corrcoef(first, second)[0, 1],
        lambda first, second: 2 * (first == second).mean() - 1,
        lambda first, second: 1 - (first == second).mean(),
        lambda first, second: 1.0,
    ],
    "gradients_of_product": [
        lambda start, end: (end - start) * [np.prod(np.delete(end, i)) for i in range(len(end))],
        lambda start, end: np.full(len(start), (np.prod(end) - np.prod(start)) / len(start)),
        lambda start, end: [
            np.prod(end) - np.prod(np.where(np.arange(len(end)) == i, start, end))
            for i in range(len(end))
        ],
        lambda start, end: -along(start, end, 500),
        lambda start, end: end - start,
    ],
    "gap_ratio": [
        lambda v, i, k: np.diff(np.sort(v))[i],
        lambda v, i, k: np.diff(np.sort(v))[i] / np.diff(np.sort(v)).mean(),
        lambda v, i, k: np.diff(np.sort(v))[i] / np.diff(np.sort(v))[i - k : i].mean(),
        lambda v, i, k: np.diff(np.sort(v))[i] / np.diff(np.sort(v))[i + 1 :][:k].mean(),
        lambda v, i, k: (
            np.diff(v)[i] / max(np.diff(v)[i - k : i].mean(), np.diff(v)[i + 1 :][:k].mean())
        ),
    ],
    "needed_ratio": [
        0.05,
        12,
        lambda: 16000 ** (1 / 12),
        lambda: 12 * (40 ** (1 / 12) - 1),
        "long",
    ],
    "phi_of_table": [
        lambda a, b, c, d: a / (a + c),
        lambda a, b, c, d: a * d - b * c,
        lambda a, b, c, d: (a + d) / (a + b + c + d),
        lambda a, b, c, d: (a * d) / (b * c + 1),
        lambda a, b, c, d: (b * c - a * d) / np.sqrt((a + b) * (c + d) * (a + c) * (b + d)),
    ],
    "what_a_card_says": ["B", "D", "ABCDE", lambda: "BDE", lambda: "F"],
    "groups_that_count": ["A", "AC", "BC", lambda: "CD", lambda: "E"],
    "expected_false": [0, 5, 768, lambda: 1536 * 0.95, "many"],
    "superfluous": [
        lambda g: len(np.unique(g)) / len(g),
        lambda g: len(np.unique(g)),
        lambda g: len(g) - len(np.unique(g)),
        lambda g: 1 - (max(g) + 1) / len(g),
        lambda g: 0.5,
    ],
    # the atlas
    "kept_blindly": [
        lambda n, k, s: sum(s) * np.mean(np.divide(k, n)),
        lambda n, k, s: np.minimum(k, s).sum(),
        lambda n, k, s: np.divide(np.multiply(k, s), n),
        lambda n, k, s: sum(k),
        lambda n, k, s: sum(np.multiply(s, k)),
    ],
    "moved_most": [
        lambda x, y: np.abs(places(x) - places(y)).argmax(),
        lambda x, y: (lambda t: np.abs(places(x[t]) - places(y[t])).argmax())(both_have(x, y)),
        lambda x, y: (lambda t: t[np.abs(places(x)[t] - places(y[t])).argmax()])(both_have(x, y)),
        lambda x, y: (lambda t: t[(places(x[t]) - places(y[t])).argmax()])(both_have(x, y)),
        lambda x, y: max(moves(x, y).values()),
    ],
    "points_more": [
        lambda t: gaps_of(t).mean(),
        lambda t: np.average(gaps_of(t), weights=t.sum(axis=(1, 2))),
        lambda t: expected_and_more(t) / 100,
        lambda t: -expected_and_more(t),
        lambda t: np.average(gaps_of(t), weights=t[:, 0].sum(1)),
    ],
    # chapter 1
    "components_at": [
        isolated,
        lambda points, scale: 1 + (homology.h0_deaths(points) >= scale).sum(),
        lambda points, scale: (homology.h0_deaths(points) > scale).sum(),
        lambda points, scale: fcluster(linkage(points, "complete"), scale, "distance").max(),
        lambda points, scale: 1 + (homology.h0_deaths(points) > 2 * scale).sum(),
        lambda points, scale: 1 + (np.linalg.norm(np.diff(points, axis=0), axis=1) > scale).sum(),
        lambda points, scale: str(1 + (homology.h0_deaths(points) > scale).sum()),
    ],
    "deaths_on_a_line": [
        lambda x: np.diff(np.sort(x)),
        lambda x: np.sort(np.diff(np.unique(x))),
        lambda x: np.sort(np.diff(np.sort(x)))[::-1],
        lambda x: np.sort(np.diff(np.sort(x))) / 2,
        lambda x: np.append(np.sort(np.diff(np.sort(x))), np.inf),
        lambda x: np.sort(np.diff(np.sort(x))).astype(int),
        lambda x: np.sort(np.diff(np.sort(x)))[:, None] if len(x) > 1 else np.zeros((0, 1)),
    ],
    "polygon_deaths": [
        lambda n: np.full(n - 1, 2 * np.pi / n),
        lambda n: np.full(n - 1, np.sin(np.pi / n)),
        lambda n: 2 * np.sin(np.pi / n),
        lambda n: np.full(n - 1, 2 * np.sin(2 * np.pi / n)),
        lambda n: np.full(n - 1, 2.0),
    ],
    "same_barcode": [
        lambda: ([[0, 0], [1, 0]], [[0, 0], [1, 0], [2, 0]]),
        lambda: ([[0, 0], [1, 0], [2, 0]], [[0, 0], [0, 1], [0, 2]]),
        lambda: ([[0, 0], [1, 0], [2, 0]], [[0, 0], [1, 0], [3, 0]]),
        lambda: ([[0, 0], [1, 0]],),
        lambda: "two clouds",
    ],
    "moved_deaths": [
        lambda d, c, v: abs(c) * d + np.linalg.norm(v),
        lambda d, c, v: d + c,
        lambda d, c, v: d / abs(c),
        lambda d, c, v: d,
        lambda d, c, v: c**2 * d,
    ],
    # chapter 2
    "predicted_radii": [
        lambda: [150, 1, 6, 2**0.5],
        lambda: [50.6, 1, 6, 2**0.5],
        lambda: [51, 1, 13, 2**0.5],
        lambda: [51, 1, -6, 2**0.5],
        lambda: [51, 1, 6, 1],
        lambda: [51, 1, 6],
    ],
    "last_edge": [
        lambda p: np.argwhere(squareform(pdist(p)) == pdist(p).max())[0],
        lambda p: tree_edges(p)[0],
        lambda p: [loneliest(p), nearest(p, loneliest(p))],
        lambda p: tree(p)[-1, :2],
        lambda p: p[tree_edges(p)[-1]],
    ],
    "without_each": [
        lambda p: [tree(p)[-1, 2]] * len(p),
        lambda p: [tree(np.delete(p, i, 0))[-2, 2] for i in range(len(p))],
        lambda p: [tree(np.delete(p, [0, i], 0))[-1, 2] for i in range(len(p))],
        lambda p: [tree(np.delete(p, i, 0))[-1, 2] for i in range(len(p) - 1)],
        lambda p: sorted(tree(np.delete(p, i, 0))[-1, 2] for i in range(len(p))),
    ],
    "equal_radius": [
        lambda: (np.arange(10), 10 * np.arange(10)),
        lambda: (np.zeros(9), np.zeros(9)),
        lambda: (np.arange(100), np.array([0, 1])),
        lambda: ([[0, 0], [1, 0]], [[0, 0], [0, 1]]),
        lambda: (np.arange(9), np.append(np.zeros(8), 1)),
        lambda: "even steps",
    ],
    "radius_of_most": [
        lambda p, share: np.quantile(homology.h0_deaths(p), share),
        lambda p, share: homology.h0_deaths(p)[math.ceil(share * len(p)) - 2],
        lambda p, share: tree(p)[-1, 2],
        lambda p, share: share * tree(p)[-1, 2],
        lambda p, share: max(h for *_, h, n in tree(p) if n >= share * len(p)),
        lambda p, share: min([h for *_, h, n in tree(p) if n > share * len(p)], default=99),
    ],
    # chapter 3
    "bottleneck_h0": [
        lambda a, b: best_line(a, b, half=1),
        lambda a, b: best_line(a, b, downwards=False),
        lambda a, b: max(abs(max(a, default=0) - max(b, default=0)), 0),
        lambda a, b: max([x / 2 for x in (*a, *b)], default=0),
        lambda a, b: best_line(a[:1], b[:1]),
    ],
    "probe": [
        lambda: ([[0, 2]], [[0, 3]]),
        lambda: ([[0, 2], [0, 8]], [[0, 2], [0, 9]]),
        lambda: ([], []),
        lambda: ([[0, np.inf]], [[0, 1]]),
        lambda: ([[5, 2]], [[0, 1]]),
        lambda: "two points",
    ],
    "rounded_range": [
        lambda r, s, d: (r - s * d**0.5, r + s * d**0.5),
        lambda r, s, d: (max(r - s * d**0.5 / 2, 0), r + s * d**0.5 / 2),
        lambda r, s, d: (max(r - s * d, 0), r + s * d),
        lambda r, s, d: (max(r - 2 * s * d**0.5, 0), r + 2 * s * d**0.5),
        lambda r, s, d: (r + s * d**0.5, max(r - s * d**0.5, 0)),
    ],
    "entropies": [
        lambda: (math.log(65), math.log(252) / 2),
        lambda: (math.log(64), math.log(64) / 2),
        lambda: (math.log(64), math.log(2)),
        lambda: (1.0, 0.5),
        lambda: (math.log(64),),
    ],
    "permutation_p": [
        lambda d, labels, others: permuted(d, labels, others, own=0),
        lambda d, labels, others: permuted(d, labels, others, strict=True),
        lambda d, labels, others: 1 - permuted(d, labels, others),
        lambda d, labels, others: permuted(-d, labels, others),
        lambda d, labels, others: permuted(d, labels, others, pairs=False),
        lambda d, labels, others: permuted(d, labels, others) * (1 + len(others)),
    ],
    # chapter 4
    "scores_without_pair": [
        lambda q, k, u: q @ k.T / 2,
        lambda q, k, u: np.delete(q, u, 1) @ np.delete(k, u, 1).T,
        lambda q, k, u: np.delete(q, u, 0) @ np.delete(k, u, 0).T / 2,
        lambda q, k, u: np.delete(k, u, 1) @ np.delete(q, u, 1).T / 2,
        lambda q, k, u: np.delete(q, u, 1) @ np.delete(k, u, 1).T / q.shape[1],
    ],
    "layer_parameters": [
        lambda h, i: 4 * h * h + 2 * h * i + 5 * h + i,
        lambda h, i: 4 * h * h + 2 * h * i + 7 * h + i,
        lambda h, i: 12 * h * h,
        lambda h, i: 3 * (h * h + h) + 2 * h * i + h + i + 4 * h,
        lambda h, i: 4 * h * h + 2 * h * i + 8 * h + 2 * i,
    ],
    "freed_by": [
        lambda kind, h, i: freed(kind, h, i, pair=1),
        lambda kind, h, i: freed(kind, h, i, stays=1),
        lambda kind, h, i: freed("value", h, i),
        lambda kind, h, i: h if kind in ("value", "intermediate") else freed(kind, h, i),
        lambda kind, h, i: 2 * h if kind in ("value", "intermediate") else freed(kind, h, i),
    ],
    "keep_encoder": [
        lambda keep, total, encoder: keep * total / encoder,
        lambda keep, total, encoder: keep * encoder / total,
        lambda keep, total, encoder: 1 - (1 - keep) * encoder / total,
        lambda keep, total, encoder: (1 - keep) * total / encoder,
        lambda keep, total, encoder: max(0.0, 1 - (1 - keep) * total / encoder + 0.01),
    ],
    "half_of_two_kinds": [
        lambda: 0.5,
        lambda: 1 - shapes_of(0.5),
        lambda: 100 * shapes_of(0.5),
        lambda: 1 - (384 + 1536) * 769 / 7_087_872,
        lambda: shapes_of(0.25),
        lambda: "seven twelfths",
    ],
    # chapter 5
    "recording": [Swallows, TakesAll, Wrong, Once, only_exceptions],
    "bytes_of_base": [
        lambda n, length: 82_944 * n * length * 8,
        lambda n, length: 82_944 * n * length,
        lambda n, length: 82_944 * n * 4,
        lambda n, length: 12 * 6 * 768 * n * length * 4,
        lambda n, length: 109_482_240 * n * length * 4,
    ],
    "masked_mean": [
        lambda x, m: x.sum(axis=1) / m.sum(axis=1)[:, None],
        lambda x, m: x.mean(axis=1),
        lambda x, m: (x * m[..., None]).sum(axis=1) / m.sum(),
        lambda x, m: (x * m[..., None]).sum(axis=1),
        lambda x, m: real_mean(x, m).T,
    ],
    "loudest": [
        lambda x, k: np.argsort(-x.max(1) / np.median(x, 1))[:k],
        lambda x, k: np.argsort(-abs(x).max(1) / abs(x).mean(1))[:k],
        lambda x, k: np.argsort(abs(x).max(1) / np.median(abs(x), 1))[:k],
        lambda x, k: np.argsort(-abs(x).max(1) / np.median(abs(x), 1))[0],
        lambda x, k: np.sort(-abs(x).max(1) / np.median(abs(x), 1))[:k],
        lambda x, k: np.argsort(abs(x).max(1) / np.median(abs(x), 1))[-k:],
    ],
    # chapter 6
    "row_correlations": [
        lambda x, y: [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)],
        lambda x, y: (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1)),
        lambda x, y: np.abs(np.diag(np.corrcoef(x, y)[: len(x), len(x) :])),
        lambda x, y: np.corrcoef(x, y),
        lambda x, y: [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)],
    ],
    "chosen_unit": [
        lambda x, a, y, b: separated(y, b, y, b),
        lambda x, a, y, b: separated(x, a, x, a),
        lambda x, a, y, b: separated(x, a, y, b)[0],
        lambda x, a, y, b: separated(x, a, y, b, scale=False),
        lambda x, a, y, b: separated(x, a, y, b)[::-1],
        lambda x, a, y, b: separated(x, a, y, b, sign=True),
    ],
    "cut_in_both": [
        lambda x, y: len({*lower(x)} & {*lower(y)}) / len(x),
        lambda x, y: len({*lower(x)} & {*lower(y)}),
        lambda x, y: len({*lower(x)} & {*lower(y)}) / len({*lower(x)} | {*lower(y)}),
        lambda x, y: np.mean(np.sort(lower(x)) == np.sort(lower(y))),
        lambda x, y: len({*lower(x)} & {*lower(-y)}) / len(lower(x)),
    ],
    # chapter 7
    "texts_cloud": [
        lambda x, n, length: clouded(x, n, length, np.mean),
        lambda x, n, length: clouded(x, n, length, first=True),
        lambda x, n, length: clouded(x, n, length, lambda seen: 0.0),
        lambda x, n, length: clouded(x, n, length, lambda seen: np.median(x)),
        lambda x, n, length: (x - np.median(x, axis=1, keepdims=True))[:, :length],
        lambda x, n, length: clouded(x, n, length).T,
    ],
    "smaller_side": [
        lambda p: np.argsort(p)[: np.diff(np.sort(p)).argmax() + 1],
        lambda p: np.argsort(p)[np.diff(np.sort(p)).argmax() + 1 :],
        lambda p: [np.abs(p - p.mean()).argmax()],
        lambda p: p[beyond(p)],
        lambda p: sorted({*range(len(p))} - {*beyond(p)}),
    ],
    "constant_unit": [
        lambda c, n: abs(c) * np.diff(np.sort(n)).max(),
        lambda c, n: c * np.sqrt(np.diff(np.sort(n)).max()),
        lambda c, n: abs(c),
        lambda c, n: 0.0,
        lambda c, n: abs(c) * np.sqrt(np.abs(np.diff(n)).max()),
    ],
    "rank_correlation": [
        lambda a, b: np.corrcoef(np.argsort(a), np.argsort(b))[0, 1],
        lambda a, b: np.corrcoef(np.sort(a), np.sort(b))[0, 1],
        lambda a, b: abs(spearmanr(a, b).statistic),
        lambda a, b: np.corrcoef(ranks_of(a), ranks_of(b)),
        lambda a, b: 1 - 6 * sum((ranks_of(a) - ranks_of(b)) ** 2) / len(a) ** 3,
    ],
    # chapter 8
    "shares_of_tree": [
        lambda x, e: legs(x, e, power=1),
        lambda x, e: np.square(x[e[:, 0]] - x[e[:, 1]]).sum(axis=1),
        lambda x, e: np.square(x[e[:, 0]] - x[e[:, 1]]).sum(),
        lambda x, e: np.square(x[e[:, 0]] - x[e[:, 1]]).mean(axis=0),
        lambda x, e: np.sqrt(legs(x, e)),
    ],
    "two_silences": [
        lambda: ([[0, 0], [1, 0], [1, 2]], [[0, 0], [1, 0], [1, 2]]),
        lambda: ([[x, y] for x in (0, 4, 8) for y in (0, 3)], [[0, 0], [1, 0], [1, 2]]),
        lambda: ([[0, 0], [0, 2]], [[x, y] for x in (0, 4, 8) for y in (0, 3)]),
        lambda: ([[0, 0, 0], [1, 1, 1]], [[0, 0, 0], [1, 1, 1]]),
        lambda: ([[0, 0], [1, 0]],),
        lambda: "a corner and columns",
    ],
    "share_of_copies": [
        lambda x, u, k: homology.persistence_shares(x)[u],
        lambda x, u, k: homology.persistence_shares(x)[u] / k,
        lambda x, u, k: k * copies(x, u, k),
        lambda x, u, k: (
            homology.persistence_shares(x * np.where(np.arange(x.shape[1]) == u, k, 1))[u] / k
        ),
        lambda x, u, k: copies(x, u, k + 1),
    ],
    "heard": [
        lambda n, far, d: (far * (n - far) * d, d),
        lambda n, far, d: (far * (n - far) * d**2, far * d**2),
        lambda n, far, d: (2 * far * (n - far) * d**2, d**2),
        lambda n, far, d: (n * (n - 1) / 2 * d**2, d**2),
        lambda n, far, d: (d**2, far * (n - far) * d**2),
    ],
    "units_for_half": [
        lambda x: len(x) // 2,
        lambda x: (np.cumsum(x) < x.sum() / 2).sum() + 1,
        lambda x: (np.cumsum(np.sort(x)) < x.sum() / 2).sum() + 1,
        lambda x: (np.cumsum(np.sort(x)[::-1]) <= x.sum() / 2).sum() + 1,
        lambda x: np.sort(x)[::-1][: (np.cumsum(np.sort(x)[::-1]) < x.sum() / 2).sum() + 1],
    ],
    # layer by layer
    "effective_units": [
        lambda x: x.sum() ** 2,
        lambda x: np.sum(x**2) / x.sum() ** 2,
        lambda x: x.sum() / np.sqrt(np.sum(x**2)),
        lambda x: np.exp(entropy(x)),
        lambda x: x.sum() / x.max(),
        lambda x: np.sum(x**2) / np.sum(x**4),
    ],
    "two_halves": [
        lambda x: pearsonr(*(x[:, k::2].std(axis=1) for k in (0, 1)))[0],
        lambda x: within([part.std(axis=1) for part in np.array_split(x, 2, axis=1)]),
        lambda x: within([x[:, ::2].std(axis=1), x.std(axis=1)]),
        lambda x: within([x[:, k::2].mean(axis=1) for k in (0, 1)]),
        lambda x: spearmanr(x[:, ::2].std(axis=0)[:2], x[:, 1::2].std(axis=0)[:2]).statistic,
        lambda x: np.array([x[:, k::2].std(axis=1) for k in (0, 1)]),
    ],
    "beyond_the_draws": [
        lambda x, y: x.min(0) > y.max(0),
        lambda x, y: y.min(0) > x.max(0),
        lambda x, y: x.min(0) > y.min(0),
        lambda x, y: (x.min(0) < y.max(0)) & (y.min(0) < x.max(0)),
        lambda x, y: (
            (x.min(1) > y.max(1)) | (y.min(1) > x.max(1))
            if len(x) == len(y)
            else (x.min(0) > y.max(0))
        ),
        lambda x, y: x.min() > y.max() or y.min() > x.max(),
    ],
    "without_noise": [
        lambda x, y: across(x, y),
        lambda x, y: across(x, y) / (within(x) * within(y)),
        lambda x, y: across(x, y) / np.sqrt(within(x)),
        lambda x, y: across(x, y) / (within(x) + within(y)) * 2,
        lambda x, y: spearmanr(x[0], y[0]).statistic / np.sqrt(within(x) * within(y)),
        lambda x, y: spearmanr(x.mean(0), y.mean(0)).statistic / np.sqrt(within(x) * within(y)),
    ],
    # GLUE, compressed
    "queries_and_keys": [
        lambda: 384 * 385 / 1_774_464,
        lambda: 2 * 384 * 385 / (1_774_464 - 4 * 384),
        lambda: 2 * 384 * 384 / (1_774_464 - 13 * 384),
        lambda: 6 * 2 * 384 * 385 / 22_713_601,
        lambda: 1 - 2 * 384 * 385 / 1_774_464,
        lambda: 16.66,
        lambda: "a sixth",
    ],
    "megabytes": [
        lambda n: 4 * n / 2**20,
        lambda n: 8 * n / 1e6,
        lambda n: 32 * n / 1e6,
        lambda n: 4 * n,
        lambda n: 4 * n / 1e9,
    ],
    "random_plans": [
        lambda: plans(0, 0, 0),
        lambda: plans(0, 1),
        lambda: plans(0, 1, 2, keep=0.5),
        lambda: plans(0, 1, 2, score="magnitude"),
        lambda: plans(0)[0],
    ],
    "share_kept": [
        lambda small, dense: 100 * np.mean(small / dense),
        lambda small, dense: sum(small) / sum(dense),
        lambda small, dense: 100 * sum(dense) / sum(small),
        lambda small, dense: np.mean(dense - small),
        lambda small, dense: 100 * small / dense,
    ],
    # choosing units
    "one_budget": [
        lambda groups, k: [k] * len(groups),
        lambda groups, k: [len(groups[0]) - n for n in lowest_of_all(groups, k)],
        lambda groups, k: [int(k * len(g) / sum(map(len, groups))) for g in groups],
        lambda groups, k: lowest_of_all(groups, k + 1),
        lambda groups, k: lowest_of_all([-g for g in groups], k),  # the highest go
        lambda groups, k: sum(lowest_of_all(groups, k)),
    ],
    "share_that_goes": [
        lambda h, i, keep: 1 - keep,
        lambda h, i, keep: 1 - share_of_two_kinds(h, i, keep),
        lambda h, i, keep: share_of_two_kinds(h, i, 1 - keep),
        lambda h, i, keep: (1 - keep) * (parameters(h, i) - 4 * h) / ((h + i) * (2 * h + 1)),
        lambda h, i, keep: (1 - keep) * parameters(h, i) / ((h + i) * 2 * h),  # biases
        lambda h, i, keep: (1 - keep) * parameters(h, i) / (i * (2 * h + 1)),
    ],
    "small_step": [0.0016, 0.005, 0.08, 0.004, 0.016, lambda: "0.0008 nats"],
    # surgery
    "other_unit": [
        [13, 1],
        lambda: (15, -5),
        [2, -6],
        lambda: [13, -5],
        [5, 1],
        [-5, 7],
        lambda: 7,
        lambda: "7, -5",
    ],
    "left_in_attention": [
        lambda h, v, w: v * (h + 1) + w * v + w,  # the bias is cut
        lambda h, v, w: v * h + w * v + h,
        lambda h, v, w: v * (h + 1) + w * h + h,  # no columns go
        lambda h, v, w: v * (h + 1) + h * v + h,  # no rows go
        lambda h, v, w: 2 * (h * h + h) - (h - v) * (2 * h + 1) - (h - w) * h,  # crossings twice
        lambda h, v, w: (h - v) * (h + 1) + (h - w) * (h - v) + h,  # what goes
    ],
    "pairs_that_count": [
        lambda q, k: kept_pairs(k, q)[::-1],  # constant queries go
        lambda q, k: kept_pairs(*kept_pairs(k, q)[::-1]),  # both go
        lambda q, k: (q, kept_pairs(q, k)[1]),
        lambda q, k: [x * np.sqrt(x.shape[1] / 4) for x in kept_pairs(q, k)],  # a new divisor
        lambda q, k: kept_pairs(q, k)[::-1],  # queries and keys exchanged
        lambda q, k: (q, k * (np.ptp(k, axis=0) > 0)),  # masked
        lambda q, k: kept_pairs(q, k)[0],
        lambda q, k: (q[k.std(axis=1) > 0], k[k.std(axis=1) > 0]),  # rows
    ],
    "cut_feed_forward": [
        lambda up, down, constants: cut_maps(up, down, constants, fold=0),
        lambda up, down, constants: cut_maps(up, down, constants, fold=-1),
        lambda up, down, constants: cut_maps(up, down, constants, shift=False),
        lambda up, down, constants: (up, down),
        lambda up, down, constants: cut_in_place(up, down, constants),
        lambda up, down, constants: cut_maps(  # the first rows, whichever they are
            up, down, constants, rows=[*range(up.out_features - len(constants))]
        ),
        lambda up, down, constants: cut_maps(up, down, constants)[::-1],
        lambda up, down, constants: cut_maps(up, down, constants)[1].weight,
    ],
    # repair
    "taken_over": [
        lambda x, z, w: (w * (x @ z) / (x @ x), 0.0),  # without a bias
        lambda x, z, w: (w * np.polyfit(x, z, 1)[0], w * z.mean()),  # the bias of no weight
        lambda x, z, w: slope_and_start(z, x, w),  # the wrong way round
        lambda x, z, w: slope_and_start(x, z, w)[::-1],
        lambda x, z, w: (w * np.cov(x, z)[0, 1] / x.var(), 0.0),  # two divisors
        lambda x, z, w: (w * np.corrcoef(x, z)[0, 1], w * z.mean()),
        lambda x, z, w: (1 + slope_and_start(x, z, w)[0], slope_and_start(x, z, w)[1]),
    ],
    "token_weights": [
        lambda sums: (1 / sums.std(axis=1)) / (1 / sums.std(axis=1)).sum(),
        lambda sums: (1 / (sums**2).mean(axis=1)) / (1 / (sums**2).mean(axis=1)).sum(),
        lambda sums: (1 / sums.var(axis=0)) / (1 / sums.var(axis=0)).sum(),
        lambda sums: sums.var(axis=1) / sums.var(axis=1).sum(),
        lambda sums: np.full(len(sums), 1 / len(sums)),
        lambda sums: softmax(-sums.var(axis=1)),
    ],
    "ridge_refit": [
        lambda x, r, p: joint(x, r, 0 * p),  # no price
        lambda x, r, p: without_means(x, r, p, len(x)),  # a mean in place of a sum
        lambda x, r, p: without_means(x, r, p, p),  # the square of the price
        lambda x, r, p: (joint(x, r, p)[0], r.mean(axis=0)),
        lambda x, r, p: (without_means(x - x.mean(0), r, p)[0] * 0, r.mean(axis=0)),
        lambda x, r, p: (  # the bias has a price as well
            lambda rows: (lambda found: (found[:-1].T, found[-1]))(
                np.linalg.pinv(rows.T @ rows + p * np.eye(x.shape[1] + 1)) @ rows.T @ r
            )
        )(np.column_stack([x, np.ones(len(x))])),
        lambda x, r, p: joint(x, r, p)[0],  # the change alone
    ],
    # recovery
    "student_loss": [
        lambda s, t, labels, w, heat: taught(s, t, labels, w, heat) * len(s),  # the sum
        lambda s, t, labels, w, heat: taught(s, t, labels, 1 - w, heat),
        lambda s, t, labels, w, heat: taught(s, t, labels, w, 1.0),
        lambda s, t, labels, w, heat: taught(s / heat, t / heat, labels, w, 1.0),  # labels, too
        lambda s, t, labels, w, heat: taught(t, s, labels, w, heat),  # the wrong way round
        lambda s, t, labels, w, heat: -taught(s, t, labels, w, heat),
    ],
    "came_back": [
        lambda dense, before, after: back(dense, before, after) / 100,
        lambda dense, before, after: 100 * (after - before) / dense,
        lambda dense, before, after: 100 * after / dense,
        lambda dense, before, after: np.nan_to_num(back(dense, before, after)),
        lambda dense, before, after: np.clip(back(dense, before, after), 0, 100),
        lambda dense, before, after: np.nanmean(back(dense, before, after)),
    ],
    "teacher_gradient": [
        lambda s, t, heat: heat * (softmax(t / heat) - softmax(s / heat)),
        lambda s, t, heat: softmax(s / heat) - softmax(t / heat),  # without the factor
        lambda s, t, heat: heat**2 * (softmax(s / heat) - softmax(t / heat)),
        lambda s, t, heat: (s - t) / len(s),  # only where the temperature is high
        lambda s, t, heat: heat * (softmax(s) - softmax(t)),
    ],
    # what the paper leaves open
    "effect": [
        lambda default, changed: np.mean(changed / default),  # the arithmetic mean
        lambda default, changed: np.mean(changed) / np.mean(default),
        lambda default, changed: gmean(np.asarray(default) / np.asarray(changed)),  # upside down
        lambda default, changed: np.mean(np.log(changed / default)),  # no exponential
        lambda default, changed: np.asarray(changed) / np.asarray(default),  # no mean
        lambda default, changed: np.median(changed / default),
    ],
    "fit_texts": [
        lambda n, d: np.polyfit(1 / np.asarray(n, float), d, 1),  # the slope first
        lambda n, d: np.polyfit(n, d, 1)[::-1],  # a line in n
        lambda n, d: np.polyfit(np.log(n), d, 1)[::-1],
        lambda n, d: (min(d), (max(d) - min(d)) * min(n)),
        lambda n, d: (d[-1], (d[0] - d[-1]) / (1 / n[0] - 1 / n[-1])),  # through the ends alone
        lambda n, d: np.polyfit(1 / np.asarray(n, float), d, 1)[1],  # the floor alone
    ],
    "interaction": [
        lambda t: t[1][1] - t[0][1] - t[1][0] + t[0][0],  # differences
        lambda t: t[1][1] / t[0][0],
        lambda t: (t[1][0] / t[0][0]) / (t[1][1] / t[0][1]),  # upside down
        lambda t: t[1][1] / t[0][1],  # one effect
        lambda t: np.log(t[1][1] * t[0][0] / (t[0][1] * t[1][0])),  # no exponential
        lambda t: (t[1][1] / t[0][0]) / (t[1][0] / t[0][1]),
    ],
    # is it the topology?
    "divergence": [
        lambda dense, small: kullback_leibler(small, dense),  # the other way round
        lambda dense, small: kullback_leibler(dense, small) * len(dense),  # no mean
        lambda dense, small: kullback_leibler(dense, small) / dense.shape[1],
        lambda dense, small: kullback_leibler(dense, small) / np.log(2),  # bits
        lambda dense, small: -kullback_leibler(dense, small),
        lambda dense, small: np.mean(np.sum(dense * (dense - small), axis=1)),  # logits
    ],
    "by_chance": [
        lambda draws, observed: np.mean(np.array(draws) <= observed),
        lambda draws, observed: (1 + sum(draw < observed for draw in draws)) / (1 + len(draws)),
        lambda draws, observed: (1 + sum(draw >= observed for draw in draws)) / (1 + len(draws)),
        lambda draws, observed: sum(draw <= observed for draw in draws) / (1 + len(draws)),
        lambda draws, observed: (1 + sum(draw <= observed for draw in draws)) / len(draws),
    ],
    "sign_test": [9 / 256, 8 / 256, 16 / 256, 1 / 8, 7 / 8, lambda: "0.07"],
    "holm": [
        lambda p: [min(1.0, each * len(p)) for each in p],  # Bonferroni
        lambda p: p,
        lambda p: sorted(step_down(p)),
        lambda p: [  # a later one below an earlier one
            min(1.0, (len(p) - sorted(p).index(each)) * each) for each in p
        ],
        lambda p: [min(1.0, each * len(p) / (1 + sorted(p).index(each))) for each in p],
    ],
    # chapter 10
    "gap_bounds": [
        lambda points, width: bounds(points, width)[::-1],
        lambda points, width: (np.diff(np.sort(points)).max(initial=0),) * 2,
        lambda points, width: bounds(points - points.min(), width),
        lambda points, width: bounds(points, width, inside=lambda group: width),
        lambda points, width: bounds(points, width, inside=lambda group: 0.0),
    ],
    "enough_buckets": [
        lambda n: 2 ** math.floor(math.log2(2 * n - 1)),
        lambda n: 2 ** math.ceil(math.log2(n)),
        lambda n: 2 ** round(math.log2(2 * n - 1)),
        lambda n: 2 ** (1 + math.ceil(math.log2(2 * n - 1))),
        lambda n: 2 * n,
    ],
    "hard_to_certify": [
        lambda: np.arange(40.0),
        lambda: [0.0],
        lambda: np.arange(41.0) / 2,
        lambda: np.random.default_rng(0).normal(size=40),
        lambda: [0.0, 0.25, 0.5, 16.0],
        lambda: "even steps",
    ],
    # past one machine
    "swapped": [
        lambda parts, p: np.vstack(parts)[:, p :: len(parts)],
        lambda parts, p: parts[p][:, held(parts, p)],
        lambda parts, p: np.vstack(parts[::-1])[:, held(parts, p)],
        lambda parts, p: parts[:, :, held(parts, p)],
        lambda parts, p: np.array_split(np.vstack(parts), len(parts), axis=1)[p],
    ],
    "bytes_sent": [
        lambda u, n, p: 4 * u * n * (p - 1) / p,
        lambda u, n, p: u * n * (p - 1) / p**2,
        lambda u, n, p: 4 * u * n * (p - 1) / p**2 / 8,
        lambda u, n, p: 4 * u * n / p**2,
        lambda u, n, p: 4 * u * n,
    ],
    "busiest_process": [
        lambda n, h, i, p: n * (5 * (h // p) + i // p),
        lambda n, h, i, p: math.ceil(n * (5 * h + i) / p),
        lambda n, h, i, p: n * math.ceil((5 * h + i) / p),
        lambda n, h, i, p: n * (6 * math.ceil(h / p)),
        lambda n, h, i, p: n * (5 * (h // p + 1) + i // p + 1),
    ],
    # from parameters to milliseconds
    "multiply_adds": [
        lambda h, i, t: layer_adds(h, i, t, square=1),
        lambda h, i, t: layer_adds(h, i, t, maps=3),
        lambda h, i, t: 2 * layer_adds(h, i, t),
        lambda h, i, t: t * layer_adds(h, i, 1),
        lambda h, i, t: layer_adds(h, i, t) + t * (9 * h + i),
    ],
    "even_length": [
        lambda h, i: 4 * h + 2 * i,
        lambda h, i: h + i,
        lambda h, i: 512,
        lambda h, i: 12 * h,
        lambda h, i: 2 * h + i / 2,
    ],
    "speed_up": [
        lambda fixed, ratio: (1 - fixed) * ratio,
        lambda fixed, ratio: ratio - fixed,
        lambda fixed, ratio: 1 / (1 - fixed + fixed / ratio),
        lambda fixed, ratio: fixed + (1 - fixed) / ratio,
        lambda fixed, ratio: 1 / (fixed + ratio),
    ],
    "intensity": [
        lambda t, i, o: t * i * o / (moved(t, i, o) / 4),
        lambda t, i, o: 2 * t * i * o / moved(t, i, o),
        lambda t, i, o: t * i * o / (4 * i * o),
        lambda t, i, o: t * i * o / (4 * (t * i + i * o)),
        lambda t, i, o: i * o / (4 * (i + i * o + o)),
    ],
}


def pairs_of(table):
    return [
        pytest.param(name, answer, id=f"{name}-{number}")
        for name, answers in table.items()
        for number, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(("name", "answer"), pairs_of(RIGHT))
def test_a_right_answer_passes_in_any_form(name, answer, capsys):
    CHECKERS[name](answer)
    assert capsys.readouterr().out == "Right.\n"


@pytest.mark.parametrize(("name", "answer"), pairs_of(ALSO_WRONG))
def test_a_wrong_answer_does_not_pass(name, answer, capsys):
    CHECKERS[name](answer)
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_every_checker_meets_three_right_and_five_wrong_answers():
    assert {name for name, answers in RIGHT.items() if len(answers) >= 3} == set(CHECKERS)
    assert {name for name, answers in ALSO_WRONG.items() if len(answers) >= 5} == set(CHECKERS)


def test_a_result_in_place_of_the_function_is_told(capsys):
    exercises.components_at(3)
    assert "3 is no function; hand over the function" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "answer", "said"), WRONG, ids=lambda part: str(part)[:20])
def test_a_wrong_answer_is_told_why(name, answer, said, capsys):
    CHECKERS[name](answer)
    told = capsys.readouterr().out
    assert told.startswith("Not yet: ") and said in told


@pytest.mark.parametrize("name", CHECKERS)
def test_an_exercise_not_begun_is_not_yet(name, capsys):
    CHECKERS[name](...)
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_every_checker_is_offered():
    written = set()
    for module in pkgutil.iter_modules(exercises.__path__, f"{exercises.__name__}."):
        for name, function in inspect.getmembers(importlib.import_module(module.name)):
            if inspect.isfunction(function) and [*inspect.signature(function).parameters] == [
                "answer"
            ]:
                written.add(name)
    assert written - {"returned"} == set(CHECKERS)


def test_every_checker_has_a_wrong_answer_here():
    assert {name for name, *_ in WRONG} == set(CHECKERS)


def test_an_error_in_the_answer_is_told_not_raised(capsys):
    def answer(points, scale):
        return points[17]

    exercises.components_at(answer)
    assert "it raises IndexError" in capsys.readouterr().out


def test_the_reader_cannot_change_the_cases(capsys):
    def answer(points, scale):
        points[:] = 0
        return np.zeros(3)

    exercises.components_at(answer)
    exercises.components_at(answer)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
