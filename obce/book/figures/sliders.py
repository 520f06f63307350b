"""Figures that move: inline SVG and a few lines of script, no server, no network.

Each shows a still state in print and without a script, and can be moved by keyboard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from obce.book.figures.geometry import components_text, in_the_plane, matched, pairs_by_length
from obce.homology import h0_deaths

if TYPE_CHECKING:
    from IPython.display import HTML


def growing_discs(
    points: np.ndarray, labels: list[str] | None = None, scale: float | None = None
) -> HTML:
    """An interactive figure: a slider sets the scale, discs grow, and the barcode fills.

    It needs no server and no network. Without JavaScript and in print it stands still at
    ``scale`` (60 % of the merge radius unless said).

    Args:
        points: ``(n, 2)``, or ``(n,)`` for points on a line.
        labels: what is written beside each point.
    """
    from IPython.display import HTML  # the command line works without IPython

    flat = np.ndim(points) == 1
    points = in_the_plane(points)
    pairs, lengths, merges = pairs_by_length(points)
    radius = float(lengths[merges].max(initial=0.0)) or 1.0
    step = 10.0 ** np.floor(np.log10(radius / 50))
    digits = max(0, -int(np.floor(np.log10(step))))
    most = round(np.ceil(1.2 * radius / step) * step, digits)
    scale = round(round((0.6 * radius if scale is None else scale) / step) * step, digits)
    lengths = np.round(lengths, digits + 1)
    count = len(points) - int(np.sum(merges & (lengths <= scale)))
    width = 480 if flat else 340
    at, zoom, height = _placed(points, width, radius / 2)
    shown = merges | (len(points) <= 40) & (lengths <= most)
    edges = list(zip(pairs[shown], lengths[shown], merges[shown], strict=True))
    tall = 150 if flat else min(height, 240)
    wide = (width - 30) / most
    pitch = (tall - 56) / max(len(points), 2)
    body = _GROWING.format(
        direction="column" if flat else "row",
        cloud="".join(_cloud_svg(at, zoom, scale, edges, labels or [])),
        bars="".join(_barcode_svg(lengths[merges], scale, most, (width, tall), pitch)),
        thick=f"{min(3.0, 0.6 * pitch):.1f}px",
        view=f"0 0 {width} {height}",
        view_bars=f"0 0 {width} {tall}",
        basis="100%" if flat else "15rem",
        n=len(points),
        most=most,
        step=f"{step:g}",
        scale=scale,
        text=f"Scale t = {scale:.{digits}f}: {components_text(count)}",
        script=_GROWING_SCRIPT.replace("ZOOM", f"{zoom / 2:.5g}")
        .replace("WIDE", f"{wide:.5g}")
        .replace("DIGITS", str(digits)),
    )
    name = "discs-" + hashlib.sha256(body.encode()).hexdigest()[:10]
    return HTML(body.replace("NAME", name))


def _placed(points: np.ndarray, width: int, room: float) -> tuple[np.ndarray, float, int]:
    """Where (n, 2) points lie in a picture of a width, with ``room`` for the discs round them.

    Returns:
        ``(n, 2)`` pixels (y upwards), pixels per unit of length, and the picture's height.
    """
    size = np.ptp(points, axis=0)
    zoom = (width - 40) / max(size[0] + 2 * room, size[1] + 2 * room)
    height = round(size[1] * zoom + 2 * room * zoom + 40)
    offset = np.array([(width - size[0] * zoom) / 2, 20 + room * zoom])
    at = (points - points.min(axis=0)) * zoom * [1, -1] + [0, size[1] * zoom] + offset
    return np.round(at, 1), zoom, height


def _cloud_svg(
    at: np.ndarray,
    zoom: float,
    scale: float,
    edges: list[tuple[np.ndarray, float, bool]],
    labels: list[str],
) -> Iterator[str]:
    """Rims, fills, edges (pair, length, whether it merges two components), points, labels."""
    for kind in ("rim", "fill"):
        r = round(scale / 2 * zoom, 1)
        for x, y in at:
            yield f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{r:g}"/>'
    for (i, j), length, merge in edges:
        kind = "merge" if merge else "loop"
        yield (
            f'<line class="edge {kind}" data-t="{length:g}"{_hidden(length > scale)} '
            f'x1="{at[i, 0]:g}" y1="{at[i, 1]:g}" x2="{at[j, 0]:g}" y2="{at[j, 1]:g}"/>'
        )
    for x, y in at:
        yield f'<circle cx="{x:g}" cy="{y:g}" r="3.5"/>'
    for (x, y), label in zip(at, labels, strict=False):
        place = f'x="{x:g}" y="{y - 9:g}" text-anchor="middle"'
        yield f"<text {place}>{escape(str(label))}</text>"


def _barcode_svg(
    deaths: np.ndarray, scale: float, most: float, size: tuple[int, int], pitch: float
) -> Iterator[str]:
    """Bars up to the scale, a cap where one has ended, the axis from 0 (at x = 12) to ``most``.

    ``size`` is (width, height) of the picture, ``pitch`` the distance of neighbouring bars.
    """
    width, tall = size
    wide = (width - 30) / most
    for row, death in enumerate([*deaths, most]):
        y, forever = round(tall - 42 - row * pitch, 1), row == len(deaths)
        end = 12 + round(min(death, scale) * wide, 1)
        mark = "" if forever else f' data-t="{death:g}"'
        yield f'<line class="bar"{mark} x1="12" x2="{end:g}" y1="{y:g}" y2="{y:g}"/>'
        if not forever:
            x, half = round(12 + death * wide, 1), round(min(6.0, 0.45 * pitch), 1)
            yield (
                f'<line class="cap" data-t="{death:g}"{_hidden(death > scale)} '
                f'x1="{x:g}" x2="{x:g}" y1="{y - half:g}" y2="{y + half:g}"/>'
            )
    now, foot = 12 + round(scale * wide, 1), tall - 32
    yield f'<line class="now" x1="{now:g}" x2="{now:g}" y1="4" y2="{foot:g}"/>'
    yield f'<path d="M12 {foot:g}H{width - 12}" stroke="#000"/>'
    yield f'<text x="{width - 12}" y="{foot - 8:g}" text-anchor="end">scale t</text>'
    for tick in MaxNLocator(4).tick_values(0, most):
        if 0 <= tick <= most:
            x = round(12 + tick * wide, 1)
            yield f'<path d="M{x:g} {foot:g}v5" stroke="#000"/>'
            yield f'<text x="{x:g}" y="{foot + 18:g}" text-anchor="middle">{tick:g}</text>'


# NAME is one figure's class: nothing has an id, so that a figure may be shown twice on a page.
_GROWING = """\
<div class="NAME" style="background:#fff;color:#000;color-scheme:light;border:1px solid #777;\
border-radius:4px;padding:.6rem .8rem;max-width:44rem;box-sizing:border-box">
<style>
.NAME svg{{flex:1 1 {basis};min-width:0;max-width:100%;height:auto;background:#fff}}
.NAME text{{font:15px sans-serif;fill:#000;stroke:#fff;stroke-width:3px;paint-order:stroke}}
.NAME .rim{{fill:none;stroke:#1b4965;stroke-width:3px}} .NAME .fill{{fill:#bcd4e6}}
.NAME .edge{{stroke:#000;stroke-width:2.5px}}
.NAME .loop{{stroke-width:1px;stroke-dasharray:2 3px}}
.NAME .bar{{stroke:#1b4965;stroke-width:{thick}}} .NAME .cap{{stroke:#000;stroke-width:3px}}
.NAME .now{{stroke:#000;stroke-width:1px;stroke-dasharray:5 4px}}
.NAME input{{flex:1;min-width:8rem}} .NAME p{{margin:.2rem 0;color:#000}}
@media print{{.NAME label{{display:none!important}}}}
</style>
<label style="display:none;gap:.6rem;align-items:center;color:#000">Scale t
<input type="range" min="0" max="{most:g}" step="{step}" value="{scale:g}"></label>
<p aria-live="polite"><strong>{text}</strong></p>
<div style="display:flex;flex-flow:{direction} wrap;gap:.5rem;align-items:center">
<svg viewBox="{view}" role="img" \
aria-label="{n} points, each with a disc whose diameter is the scale; lines join the points \
that are within the scale.">{cloud}</svg>
<svg viewBox="{view_bars}" role="img" \
aria-label="Barcode up to the scale: one bar per component; a bar with a stroke across its \
end has ended.">{bars}</svg>
</div></div>
<script>{script}</script>"""


_GROWING_SCRIPT = """
document.querySelectorAll(".NAME").forEach(box => {
  if (box.dataset.ready) return;
  box.dataset.ready = "yes";
  const slider = box.querySelector("input"), said = box.querySelector("strong");
  const each = (what, how) => box.querySelectorAll(what).forEach(how);
  const draw = () => {
    const t = +slider.value, end = 12 + t * WIDE;
    let count = 1;
    each(".rim, .fill", disc => disc.setAttribute("r", t * ZOOM));
    each(".edge, .cap", line => line.style.display = line.dataset.t <= t ? "" : "none");
    each(".bar", bar => {
      const death = bar.dataset.t, ended = death !== undefined && +death <= t;
      if (death !== undefined && !ended) count += 1;
      bar.setAttribute("x2", ended ? 12 + death * WIDE : end);
    });
    each(".now", line => ["x1", "x2"].forEach(x => line.setAttribute(x, end)));
    said.textContent = `Scale t = ${t.toFixed(DIGITS)}: ${count} component${count > 1 ? "s" : ""}`;
  };
  box.querySelector("label").style.display = "flex";
  slider.addEventListener("input", draw);
  draw();
});
"""


def _hidden(hidden: bool) -> str:
    return ' style="display:none"' if hidden else ""


# NAME is the figure's class, as above; words in capitals are filled in.
_NOISE = """\
<div class="NAME" style="background:#fff;color:#000;color-scheme:light;border:1px solid #777;\
border-radius:4px;padding:.6rem .8rem;max-width:44rem;box-sizing:border-box">
<style>
.NAME svg{flex:1 1 15rem;min-width:0;max-width:100%;height:auto;background:#fff}
.NAME text{font:14px sans-serif;fill:#000}
.NAME input{flex:1;min-width:8rem} .NAME p{margin:.2rem 0;color:#000}
@media print{.NAME label{display:none!important}}
</style>
<label style="display:none;gap:.6rem;align-items:center;color:#000">Noise ε
<input type="range" min="0" max="LAST" value="START"></label>
<p aria-live="polite"><strong>SAYS</strong></p>
<div style="display:flex;flex-flow:row wrap;gap:.5rem;align-items:center">
<svg viewBox="0 0 320 300" role="img" aria-label="The cloud: hollow circles are the points at \
rest, filled ones the moved points, dotted lines the ways that they go.">
<text x="160" y="16" text-anchor="middle">the cloud</text>
<g fill="none" stroke="#555">RESTING</g>
<g stroke="#777" stroke-dasharray="2 3">WAYS</g>
<g fill="#1b4965" data-part="moved">MOVED</g>
</svg>
<svg viewBox="0 0 320 300" role="img" aria-label="Deaths at rest on the left and after the move \
on the right, matched by lines; on the far right the range of two epsilon round the merge radius \
at rest.">
<text x="70" y="16" text-anchor="middle">at rest</text>
<text x="220" y="16" text-anchor="middle">moved</text>
<text x="14" y="155" text-anchor="middle" transform="rotate(-90 14 155)">death (scale t)</text>
TICKS
<path d="M70 24V280M220 24V280" stroke="#999"/>
<g stroke="#000" fill="none" data-part="pairs">PAIRS</g>
<path data-part="range" d="RANGE" stroke="#000" stroke-width="3" fill="none"/>
<text x="264" y="RADIUS">r<tspan dy="4" font-size="10">f</tspan><tspan dy="-4"> ± 2ε</tspan></text>
<g fill="#1b4965">OLD</g>
<g fill="#fff" stroke="#1b4965" stroke-width="1.5" data-part="new">NEW</g>
</svg>
</div></div>
<script>
document.querySelectorAll(".NAME").forEach(box => {
  if (box.dataset.ready) return;
  box.dataset.ready = "yes";
  const data = DATA, slider = box.querySelector("input");
  const part = name => box.querySelector(`[data-part=${name}]`);
  const each = (name, how) => [...part(name).children].forEach((element, i) => {
    const values = how(i);
    for (const key in values) element.setAttribute(key, values[key]);
  });
  slider.addEventListener("input", () => {
    const now = data.frames[+slider.value];
    each("moved", i => ({cx: now.x[i], cy: now.y[i]}));
    each("new", i => ({y: (now.deaths[i] - 4).toFixed(1)}));
    each("pairs", i => i < now.matched
      ? {d: `M70 ${data.rest[i]}L220 ${now.deaths[i]}`, "stroke-dasharray": "none"}
      : {d: `M70 ${data.rest[i]}h30M220 ${now.deaths[i]}h-30`, "stroke-dasharray": "4 3"});
    part("range").setAttribute("d", now.range);
    box.querySelector("strong").textContent = now.says;
  });
  box.querySelector("label").style.display = "flex";
});
</script>"""


def noise_slider(points: np.ndarray, levels: np.ndarray, seed: int = 0, start: int = 0) -> HTML:
    """An interactive figure: a slider moves the points, and the deaths follow, matched.

    It needs no server and no network: all frames are computed here.

    Args:
        points: ``(n, 2)``.
        levels: how far every point moves, one frame each; each point keeps its direction.
        seed: of the directions.
        start: the frame that is shown first, and where no script runs.
    """
    from IPython.display import HTML  # the command line works without IPython

    points, levels = np.asarray(points, dtype=float), np.asarray(levels, dtype=float)
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, len(points))
    ways = np.column_stack([np.cos(angles), np.sin(angles)])
    rest = h0_deaths(points)[::-1]
    after = [h0_deaths(points + level * ways)[::-1] for level in levels]
    top = max(rest[0] + 2 * levels.max(), max(deaths[0] for deaths in after))

    low = points.min(axis=0) - levels.max()
    zoom = min(np.array([300, 250]) / (points.max(axis=0) + levels.max() - low))
    middle = (points.max(axis=0) + points.min(axis=0)) / 2

    def place(cloud: np.ndarray) -> np.ndarray:
        return np.round(np.array([160, 155]) + zoom * (cloud - middle) * [1, -1], 1)

    def height(death: Any) -> Any:
        return np.round(280 - 250 * np.asarray(death) / top, 1)

    frames = []
    for level, deaths in zip(levels, after, strict=True):
        distance, pairs_matched = matched(rest, deaths)
        moved = place(points + level * ways)
        ends = height(np.clip([rest[0] - 2 * level, rest[0] + 2 * level], 0, None))
        frames.append(
            {
                "x": moved[:, 0].tolist(),
                "y": moved[:, 1].tolist(),
                "deaths": height(deaths).tolist(),
                "matched": pairs_matched,
                "range": f"M240 {ends[0]}h14m-7 0V{ends[1]}m-7 0h14",
                "says": f"Each point moved by ε = {level:.2f}: bottleneck distance {distance:.2f}, "
                f"allowed 2ε = {2 * level:.2f}. Merge radius {rest[0]:.2f} → {deaths[0]:.2f}.",
            }
        )
    old, now = height(rest), frames[start]
    here, there = place(points), np.column_stack([now["x"], now["y"]])
    far = place(points + levels.max() * ways)
    pairs = [
        f'<path d="M70 {a}L220 {b}"/>'
        if i < now["matched"]
        else f'<path d="M70 {a}h30M220 {b}h-30" stroke-dasharray="4 3"/>'
        for i, (a, b) in enumerate(zip(old, now["deaths"], strict=True))
    ]
    step = 10.0 ** np.floor(np.log10(top))
    step = step if top >= 3 * step else step / 2
    ticks = np.arange(0, top, step)
    filled = {
        "RESTING": "".join(f'<circle cx="{x}" cy="{y}" r="5"/>' for x, y in here),
        "WAYS": "".join(
            f'<path d="M{a} {b}L{x} {y}"/>' for (a, b), (x, y) in zip(here, far, strict=True)
        ),
        "MOVED": "".join(f'<circle cx="{x}" cy="{y}" r="4"/>' for x, y in there),
        "TICKS": "".join(
            f'<text x="58" y="{height(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
            for tick in ticks
        ),
        "PAIRS": "".join(pairs),
        "OLD": "".join(f'<circle cx="70" cy="{y}" r="4"/>' for y in old),
        "NEW": "".join(
            f'<rect x="216" y="{y - 4:.1f}" width="8" height="8"/>' for y in now["deaths"]
        ),
        "RANGE": now["range"],
        "RADIUS": f"{old[0] + 4:.1f}",
        "LAST": str(len(levels) - 1),
        "START": str(start),
        "SAYS": now["says"],
        "DATA": json.dumps({"rest": old.tolist(), "frames": frames}, ensure_ascii=False),
    }
    page = _NOISE
    for word, text in filled.items():
        page = page.replace(word, text)
    return HTML(page.replace("NAME", "noise-" + hashlib.sha256(page.encode()).hexdigest()[:10]))


def sliding_scale(points: np.ndarray, texts: Sequence[str], name: str, share: float = 0.97) -> HTML:
    """An interactive figure: points on a line, a slider for the scale, brackets for components.

    The texts outside the largest component are listed, up to ten. It needs no server and no
    network; without JavaScript and in print it stands still at ``share`` of the merge radius.

    Args:
        points: ``(n,)``, one per text.
        name: what the points are: the label of the line.
    """
    from IPython.display import HTML  # the command line works without IPython

    order = np.argsort(points, kind="stable")
    values = np.round(np.asarray(points, dtype=float)[order], 3)
    span = float(values[-1] - values[0]) or 1.0
    at = [round(20 + 600 * (v - values[0]) / span) for v in values.tolist()]
    gaps = np.round(np.diff(values), 3)
    radius = float(gaps.max())
    scale = np.floor(1000 * share * radius) / 1000
    cuts = [0, *(np.flatnonzero(gaps > scale) + 1).tolist(), len(values)]
    parts = list(zip(cuts[:-1], cuts[1:], strict=True))
    largest = max(parts, key=lambda part: part[1] - part[0])
    outside = [i for part in parts if part != largest for i in range(*part)]
    words = [escape(str(texts[i])) for i in order]
    body = _SLIDING.format(
        ticks="".join(f'<path d="M{x} 30v24" stroke="#000" opacity=".6"/>' for x in at),
        brackets="".join(
            f'<path d="M{at[a] - 3} 60v8H{at[b - 1] + 3}v-8" fill="none" stroke="#000" '
            'stroke-width="2"/>'
            for a, b in parts
        ),
        low=f"{values[0]:.3f}",
        high=f"{values[-1]:.3f}",
        name=escape(name),
        most=f"{1.1 * radius:.3f}",
        scale=f"{scale:.3f}",
        text=f"Scale t = {scale:.3f}: {components_text(len(parts))}, "
        f"{len(outside)} of {len(values)} texts outside the largest",
        items="".join(f"<li>{words[i]}</li>" for i in outside[:10]),
        data=escape(
            json.dumps({"v": values.tolist(), "x": at, "w": [str(texts[i]) for i in order]})
        ),
        script=_SLIDING_SCRIPT,
    )
    tag = "line-" + hashlib.sha256(body.encode()).hexdigest()[:10]
    return HTML(body.replace("NAME", tag))


# NAME is one figure's class, as above.
_SLIDING = """\
<div class="NAME" data-points="{data}" style="background:#fff;color:#000;color-scheme:light;\
border:1px solid #777;border-radius:4px;padding:.6rem .8rem;max-width:44rem;box-sizing:border-box">
<svg viewBox="0 0 640 100" role="img" aria-label="Points on a line: {name}" \
style="width:100%;height:auto;background:#fff">
<path d="M20 42H620" stroke="#999"/>{ticks}<g class="brackets">{brackets}</g>
<g font-size="14"><text x="20" y="18">{low}</text>
<text x="620" y="18" text-anchor="end">{high}</text>
<text x="320" y="18" text-anchor="middle">{name}</text></g></svg>
<label style="display:flex;gap:.6rem;align-items:center">scale t
<input type="range" min="0" max="{most}" step="0.001" value="{scale}" style="flex:1;min-width:0">\
</label>
<p class="said" aria-live="polite" style="margin:.4rem 0;color:#000">{text}</p>
<ul class="texts" style="margin:0 0 0 1.2rem;min-height:5rem;color:#000">{items}</ul>
<script>{script}</script></div>"""


_SLIDING_SCRIPT = """
for (const box of document.querySelectorAll("div.NAME")) {
  if (box.dataset.ready) continue;
  box.dataset.ready = "yes";
  const {v, x, w} = JSON.parse(box.dataset.points), slider = box.querySelector("input");
  slider.addEventListener("input", () => {
    const t = Number(slider.value), parts = [[0]];
    for (let i = 1; i < v.length; i++) {
      if (v[i] - v[i - 1] > t + 1e-6) parts.push([]);
      parts[parts.length - 1].push(i);
    }
    const largest = parts.reduce((a, b) => b.length > a.length ? b : a);
    const outside = parts.filter(p => p !== largest).flat();
    box.querySelector(".brackets").innerHTML = parts.map(p =>
      `<path d="M${x[p[0]] - 3} 60v8H${x[p[p.length - 1]] + 3}v-8" fill="none" stroke="#000" \
stroke-width="2"/>`).join("");
    box.querySelector(".said").textContent = `Scale t = ${t.toFixed(3)}: ${parts.length} ` +
      `component${parts.length > 1 ? "s" : ""}, ${outside.length} of ${v.length} texts outside ` +
      "the largest";
    box.querySelector(".texts").replaceChildren(...outside.slice(0, 10).map(i => {
      const item = document.createElement("li");
      item.textContent = w[i];
      return item;
    }));
  });
}
"""
