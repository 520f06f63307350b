"""Figures of part I: points, discs, barcodes, trees, diagrams."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import dendrogram

from obce.book.figures.geometry import components_text, in_the_plane, matched, pairs_by_length
from obce.plots.style import DARK, LIGHT


def discs(axes: Axes, points: np.ndarray, scale: float) -> None:
    """The union of discs of diameter ``scale`` round points, and the pairs within that scale.

    A thick line is the last merge, the one that leaves one component; the other lines that
    merged two components are solid, and dotted ones join points that hung together before.

    Args:
        points: ``(n, 2)``, or ``(n,)`` for points on a line.
    """
    points = in_the_plane(points)
    pairs, lengths, merges = pairs_by_length(points)
    looks: tuple[dict[str, Any], ...] = (
        {"edgecolor": DARK, "linewidth": 2},
        {"facecolor": LIGHT, "linewidth": 0},
    )
    for look in looks:
        for point in points:  # all rims first, then all fills: what stays is the union's rim
            axes.add_patch(Circle(point, scale / 2, **look))
    last = np.flatnonzero(merges)[-1:]
    for k in np.flatnonzero(lengths <= scale * (1 + 1e-9)):
        style, width = ("-", 4 if k in last else 1.5) if merges[k] else (":", 1)
        axes.plot(*points[pairs[k]].T, style, color="black", linewidth=width)
    axes.plot(*points.T, "o", color="black", markersize=4, linestyle="none")
    count = len(points) - int(np.sum(merges & (lengths <= scale * (1 + 1e-9))))
    axes.set_title(f"t = {scale:.3g}: {components_text(count)}")
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.set_axis_off()


def barcode(
    axes: Axes, deaths: np.ndarray, scale: float | None = None, name: str = "$r_f$"
) -> None:
    """One bar per finite death, shortest at the bottom, and the bar that never ends on top.

    The longest finite bar is thick and says how long it is. A death at 0 is a dot. With a
    scale, a dashed line stands there: it crosses as many bars as there are components.
    """
    deaths = np.sort(np.asarray(deaths, dtype=float))
    longest = deaths.max(initial=0.0) or 1.0
    rows, width = np.arange(len(deaths)), 2.5 if len(deaths) <= 30 else 1
    axes.hlines(rows[deaths > 0], 0, deaths[deaths > 0], color=DARK, linewidth=width)
    axes.plot(0 * deaths[deaths == 0], rows[deaths == 0], "o", color=DARK, markersize=2 * width)
    top = 1.08 * len(deaths)
    if len(deaths):
        axes.hlines(rows[-1], 0, deaths[-1], color="black", linewidth=5)
        axes.annotate(
            f"{name} = {deaths[-1]:{'.2g' if 0 < deaths[-1] < 0.1 else '.2f'}}",
            (deaths[-1], rows[-1]),
            (7, 0),
            textcoords="offset points",
            va="center" if len(deaths) <= 30 else "top",
        )
    arrow = {"arrowstyle": "-|>", "color": DARK, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (1.35 * longest, top), (0, top), arrowprops=arrow)
    if scale is not None:
        axes.axvline(scale, color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0 if (deaths > 0).all() else -0.02 * longest, 1.38 * longest)
    axes.set_ylim(-0.8, top + 0.03 * top + 0.6)
    axes.set_yticks([])
    axes.set_xlabel("scale t")
    axes.set_ylabel("components")


def spanning_tree(
    axes: Axes, points: np.ndarray, edges: np.ndarray, names: list[str] | None = None
) -> None:
    """A cloud in the plane with its minimum spanning tree; the last merge is the thick line.

    Args:
        points: ``(n, 2)``, or ``(n,)`` for points on a line.
        edges: ``(n - 1, 2)`` pairs of points, in the order in which they merge.
        names: written beside the points, the first ones first, where there is room.
    """
    points = in_the_plane(points)
    for k, edge in enumerate(edges):
        last = k == len(edges) - 1
        axes.plot(*points[edge].T, "-", color="black", linewidth=3.5 if last else 1, zorder=2)
    size = 5 if names else 4
    axes.plot(*points.T, "o", color=DARK, markersize=size, linestyle="none", zorder=3)
    axes.set_aspect("equal")
    if names:
        _write_names(axes, points, edges, names)


def _write_names(axes: Axes, points: np.ndarray, edges: np.ndarray, names: list[str]) -> None:
    """A name goes where it covers no dot and no other name, and crosses the fewest lines."""
    # settles the layout, on which the room depends
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    dots = axes.transData.transform(points)
    steps = np.linspace(0, 1, 60)[:, None, None]
    lines = (dots[edges[:, 0]] * (1 - steps) + dots[edges[:, 1]] * steps).reshape(-1, 2)
    page = axes.get_window_extent()
    taken: list[Bbox] = []
    sides = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    for point, name, dot in zip(points, names, dots, strict=False):
        best, near = None, dots[np.abs(dots - dot).sum(axis=1) > 1]  # the others' dots
        for x, y in sides:
            text = axes.annotate(
                name, point, (5 * x, 5 * y), textcoords="offset points", fontsize=8, zorder=4,
                ha=["center", "left", "right"][x], va=["center", "bottom", "top"][y],
            )  # fmt: skip
            box = text.get_window_extent()
            free = not any(box.overlaps(other) for other in taken)
            free = free and not box.padded(9).count_contains(near)
            free = free and page.count_contains(box.corners()) == 4
            crossed = box.count_contains(lines)
            if free and (best is None or crossed < best[0]):
                if best:
                    best[1].remove()
                best = crossed, text, box
            else:
                text.remove()
        if best:
            taken.append(best[2])


def dendrogram_and_barcode(upper: Axes, lower: Axes, merges: np.ndarray, names: list[str]) -> None:
    """Single linkage above the barcode of the same cloud, on one scale.

    Dashed lines run from the last three merges of the dendrogram to the ends of their bars.

    Args:
        upper, lower: Axes that share their x axis.
        merges: ``(n - 1, 4)`` as ``scipy.cluster.hierarchy.linkage`` gives it.
        names: one per point.
    """
    dendrogram(
        merges, orientation="right", labels=names, ax=upper,
        color_threshold=0, above_threshold_color="black",
    )  # fmt: skip
    barcode(lower, merges[:, 2])
    for axes in (upper, lower):
        for height in merges[-3:, 2]:
            axes.axvline(height, color="#b45f06", linestyle="--", linewidth=1, zorder=0)
    upper.tick_params("y", labelsize=7, length=0)
    upper.tick_params("x", labelbottom=False)
    upper.spines["left"].set_visible(False)


def last_gaps(axes: Axes, clouds: dict[str, np.ndarray]) -> None:
    """Clouds on a line, one below the other; a thick line is the largest gap, the merge radius.

    Args:
        clouds: name -> ``(n,)``, n >= 2.
    """
    for row, cloud in enumerate(clouds.values()):
        points = np.sort(cloud)
        gap = np.diff(points).argmax()
        axes.plot(points, np.full(len(points), row), "|", color="black", markersize=16)
        axes.plot(points[gap : gap + 2], [row, row], "-", color=DARK, linewidth=4)
        wide = points[gap + 1] - points[gap]
        place = points[gap : gap + 2].mean(), row - 0.42
        axes.text(*place, f"$r_f$ = {wide:.2f}", ha="center", va="center", fontsize=9)
    axes.set_yticks(range(len(clouds)), clouds)
    axes.set_ylim(len(clouds) - 0.5, -0.75)
    axes.tick_params("y", length=0)
    axes.spines["left"].set_visible(False)


def diagram(axes: Axes, diagrams: dict[str, np.ndarray]) -> None:
    """Persistence diagrams: one mark per bar at (birth, death), with the diagonal.

    Args:
        diagrams: name -> ``(m, 2)`` births and deaths. Each has its own marker; infinite deaths
            stand on a dotted line at the top. A diagram may be empty.
    """
    finite = np.concatenate([np.ravel(d) for d in diagrams.values()])
    finite = finite[np.isfinite(finite)]
    top = 1.12 * max(finite.max(initial=0), 1e-9)
    endless = any(np.isinf(d).any() for d in diagrams.values())
    edge = 1.14 * top if endless else top
    axes.plot([0, edge], [0, edge], color="#777777", linestyle="-", linewidth=1)
    axes.fill_between([0, edge], [0, edge], color="#eeeeee", linewidth=0)
    if endless:
        axes.axhline(top, color="#777777", linestyle=":", linewidth=1)
        axes.text(edge / 2, top, "never", ha="center", va="bottom", fontsize=9)
    faces = [DARK, "white", LIGHT, "black"]
    for (name, points), marker, face in zip(diagrams.items(), "osD^", faces, strict=False):
        points = np.reshape(points, (-1, 2))
        births, deaths = points[:, 0], np.minimum(points[:, 1], top)
        axes.plot(
            births, deaths, marker, markersize=6.5, label=name, clip_on=False, zorder=3,
            markerfacecolor=face, markeredgecolor=DARK, markeredgewidth=1.3,
        )  # fmt: skip
    axes.set(xlim=(-0.04 * edge, edge), ylim=(0, edge), aspect="equal")
    axes.set(xlabel="birth (scale $t$)", ylabel="death (scale $t$)")
    ticks = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(0, edge)
    axes.set(xticks=ticks[ticks <= edge], yticks=ticks[ticks <= edge])
    if len(diagrams) > 1:
        axes.legend(loc="lower right", frameon=True, edgecolor="none", framealpha=0.9)


def matching(axes: Axes, diagrams: dict[str, np.ndarray], pairs: list[tuple]) -> None:
    """Two persistence diagrams with a matching, and the cost of each of its pairs.

    Args:
        diagrams: two of them, name -> ``(m, 2)``, finite.
        pairs: (row of the first or None, row of the second or None); None is the diagonal.

    Costs are measured in the maximum norm; the title says the largest and the sum.
    """
    diagram(axes, diagrams)
    first, second = diagrams.values()
    costs = []
    for i, j in pairs:
        point = first[i] if i is not None else second[j]
        if i is None or j is None:
            other = np.full(2, np.mean(point))
        else:
            other = second[j]
        costs.append(np.abs(point - other).max())
        ends = np.array([point, other])
        axes.plot(*ends.T, color="black", linestyle="--", linewidth=1.2, zorder=2)
        long = costs[-1] > 0.2 * axes.get_ylim()[1]  # else the number stands beside the line
        x, y = ends.mean(axis=0) if long else (ends[:, 0].max(), ends[:, 1].mean())
        axes.annotate(
            f"{costs[-1]:g}", (x, y), (0, 0) if long else (4, -4), textcoords="offset points",
            ha="center" if long else "left", va="center" if long else "top", fontsize=9, zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if long else None,
        )  # fmt: skip
    axes.set_title(f"largest {max(costs):g}, sum {sum(costs):g}")


def matched_deaths(axes: Axes, diagrams: dict[str, np.ndarray]) -> float:
    """Two lists of H0 deaths side by side, matched as the bottleneck distance does it.

    Args:
        diagrams: two of them, name -> ``(m,)`` finite deaths.

    Returns:
        The bottleneck distance. A solid line is a pair, a dashed stub goes to the diagonal.
    """
    (left, right) = (np.sort(deaths)[::-1] for deaths in diagrams.values())
    distance, pairs = matched(left, right)
    for a, b in zip(left[:pairs], right[:pairs], strict=True):
        axes.plot([0, 1], [a, b], color="black", linestyle="-", linewidth=1.2)
        axes.text(0.5, (a + b) / 2, f"{abs(a - b):.2g}", ha="center", va="bottom", fontsize=9)
    for x, step, side, rest in ((0, 0.2, "left", left), (1, -0.2, "right", right)):
        for death in rest[pairs:]:
            axes.plot([x, x + step], [death, death], color="black", linestyle="--", linewidth=1.2)
            axes.text(x + 1.1 * step, death, f"{death / 2:.2g}", ha=side, va="center", fontsize=9)
    for x, deaths, marker, face in ((0, left, "o", DARK), (1, right, "s", "white")):
        axes.axvline(x, color="#999999", linestyle="-", linewidth=1, zorder=0)
        axes.plot(
            np.full(len(deaths), x), deaths, marker, markersize=6.5, zorder=3,
            markerfacecolor=face, markeredgecolor=DARK, markeredgewidth=1.3,
        )  # fmt: skip
    axes.set_xticks([0, 1], diagrams)
    axes.set(xlim=(-0.15, 1.15), ylim=(0, None), ylabel="death (scale $t$)")
    axes.spines["bottom"].set_visible(False)
    return distance


def cloud_on_a_line(axes: Axes, points: np.ndarray, label: str = "output") -> None:
    """A cloud in R as ticks on a line, with a bar in its largest gap, the last merge."""
    points = np.sort(points)
    gap = np.diff(points).argmax()
    left, right = points[gap : gap + 2]
    axes.plot(points, np.zeros(len(points)), "|", color="black", markersize=18, alpha=0.6)
    axes.plot([left, right], [0, 0], "-", color="#b45f06", linewidth=4)
    for edge, size, side in ((left, gap + 1, "right"), (right, len(points) - gap - 1, "left")):
        axes.annotate(
            f"{size}", (edge, 0), (0, 15), textcoords="offset points", ha=side, fontsize=9
        )
    text = f"$r_f$ = {right - left:.3g}"
    middle = ((left + right) / 2, 0)
    axes.annotate(text, middle, (0, -24), textcoords="offset points", ha="center", fontsize=9)
    axes.set(ylim=(-1, 1), yticks=[], xlabel=label)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
