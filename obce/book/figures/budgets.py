"""Figures of the chapter on choosing units: what a budget leaves, layer by layer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from obce.plots.style import DARK
from obce.pruning import Plan

if TYPE_CHECKING:
    from IPython.display import HTML

LOOKS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"))
TALL, WIDE, PITCH = 110, 26, 34  # pixels: of a full bar, of its width, from layer to layer


def kept_fractions(plan: Plan, kind: str) -> list[float]:
    """Of each layer's units of a kind, the fraction that stays."""
    layers = range(plan.shape.layers)
    return [plan.counts(layer)[kind] / plan.shape.width(kind) for layer in layers]


def kept_by_layer(axes: Axes, plans: Mapping[str, Plan], kind: str) -> None:
    """Of each layer's units of a kind, the percentage that each plan keeps."""
    for (name, plan), (marker, line) in zip(plans.items(), LOOKS, strict=False):
        values = 100 * np.array(kept_fractions(plan, kind))
        axes.plot(values, marker=marker, linestyle=line, markerfacecolor="white", label=name)
    axes.set(xlabel="layer", ylabel="units that stay (%)", ylim=(-3, 103), title=kind)
    axes.set_xticks(range(next(iter(plans.values())).shape.layers))


def budget_slider(plans: Sequence[Plan], kinds: Sequence[str], start: int = 0) -> HTML:
    """An interactive figure: a slider for the budget, and for each layer and kind what stays.

    It needs no server and no network; without a script and in print it stands at ``start``.

    Args:
        plans: from the smallest budget to the largest.
        kinds: a row of bars each.
    """
    from IPython.display import HTML  # the command line works without IPython

    frames: list[dict[str, Any]] = [
        {
            "kept": [
                round(TALL * part, 1) for kind in kinds for part in kept_fractions(plan, kind)
            ],
            "says": f"{100 * plan.keep_encoder:.1f} % of the encoder stay, which are "
            f"{100 * plan.keep_total:.1f} % of the model: "
            + ", ".join(
                f"{sum(plan.counts(layer)[kind] for layer in range(plan.shape.layers)):,} {kind}"
                for kind in kinds
            )
            + " units.",
        }
        for plan in plans
    ]
    layers = plans[0].shape.layers
    width = 40 + layers * PITCH
    bars, labels = [], []
    for row, kind in enumerate(kinds):
        left = 10 + row * width
        labels.append(f'<text x="{left}" y="18" font-weight="bold">{escape(kind)}</text>')
        for layer in range(layers):
            x, height = left + layer * PITCH, frames[start]["kept"][row * layers + layer]
            bars.append(
                f'<path d="M{x} 30h{WIDE}v{TALL}h-{WIDE}z" fill="none" stroke="#777"/>'
                f'<rect x="{x}" y="{30 + TALL - height:.1f}" width="{WIDE}" '
                f'height="{height}" fill="{DARK}"/>'
            )
            labels.append(
                f'<text x="{x + WIDE / 2}" y="{TALL + 46}" text-anchor="middle">{layer}</text>'
            )
    page = _BUDGET
    for word, text in {
        "VIEW": f"0 0 {len(kinds) * width} {TALL + 56}",
        "BARS": "".join(bars),
        "LABELS": "".join(labels),
        "LAST": str(len(plans) - 1),
        "START": str(start),
        "SAYS": frames[start]["says"],
        "DATA": json.dumps(frames, ensure_ascii=False),
        "BOTTOM": str(30 + TALL),
    }.items():
        page = page.replace(word, text)
    return HTML(page.replace("NAME", "budget-" + hashlib.sha256(page.encode()).hexdigest()[:10]))


# NAME is one figure's class: a page may hold several.
_BUDGET = """\
<div class="NAME" style="background:#fff;color:#000;color-scheme:light;border:1px solid #777;\
border-radius:4px;padding:.6rem .8rem;max-width:44rem;box-sizing:border-box">
<svg viewBox="VIEW" role="img" aria-label="Bars: the part of each layer's units that stays, by \
kind" style="width:100%;height:auto;background:#fff"><g class="bars">BARS</g>
<g font-size="13">LABELS</g></svg>
<label style="display:flex;gap:.6rem;align-items:center">budget
<input type="range" min="0" max="LAST" step="1" value="START" style="flex:1;min-width:0"></label>
<p class="said" aria-live="polite" style="margin:.4rem 0;color:#000">SAYS</p>
<script>
for (const box of document.querySelectorAll("div.NAME")) {
  if (box.dataset.ready) continue;
  box.dataset.ready = "yes";
  const frames = DATA, slider = box.querySelector("input");
  slider.addEventListener("input", () => {
    const frame = frames[Number(slider.value)];
    box.querySelectorAll("rect").forEach((bar, i) => {
      bar.setAttribute("height", frame.kept[i]);
      bar.setAttribute("y", BOTTOM - frame.kept[i]);
    });
    box.querySelector(".said").textContent = frame.says;
  });
}
</script></div>"""
