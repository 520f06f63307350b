"""The atlas as one HTML page: self-contained, no server, for the keyboard and a screen reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from obce.explain.html import STYLE

MORE_STYLE = """
canvas { display: block; max-width: 100%; border: 1px solid #888; cursor: crosshair }
canvas:focus-visible, summary:focus-visible { outline: 3px solid #b35900; outline-offset: 2px }
.chart { margin: 1rem 0 } .chart h3 { margin: .2rem 0 } .said { min-height: 1.5em; margin: .2rem 0 }
#card:focus { outline: none }
#card { border-top: 3px solid #111; margin-top: 1.5rem; padding-top: .5rem }
"""

# Each chart is a picture of squares that acts as a slider: a screen reader says what the square at
# hand is, arrows move, Enter opens the card. What colour says, a dot or a stroke says as well.
SCRIPT = """
const SIZE = 9, COLUMNS = 96, loaded = {}, waiting = {};
function obceCards(name, cards) { loaded[name] = cards; (waiting[name] || []).forEach(f => f()); }
function withCards(name, then) {
  if (loaded[name]) return then();
  if (waiting[name]) return waiting[name].push(then);
  waiting[name] = [then];
  const script = document.createElement("script");
  script.src = "cards/" + name + ".js";
  script.onerror = () => { delete waiting[name];
    show("The file " + script.src + " is not there: the cards lie beside this page."); };
  document.head.append(script);
}
function element(name, content, attributes) {
  const made = document.createElement(name);
  Object.entries(attributes || {}).forEach(([key, value]) => made.setAttribute(key, value));
  [].concat(content ?? []).forEach(part => made.append(part));
  return made;
}
function table(caption, head, rows) {
  const cells = (name, row) => element("tr", row.map(one => element(name, String(one))));
  return element("div", element("table", [element("caption", caption), cells("th", head),
    ...rows.map(row => cells("td", row))]), {class: "wide", tabindex: 0});
}
let from = null; // the chart whose unit is open
function show(parts) {
  const card = document.getElementById("card");
  card.replaceChildren(...[].concat(parts));
  card.focus();
  card.scrollIntoView({block: "nearest"});
}
function back() { if (from) from.canvas.focus(); }
document.getElementById("card").addEventListener("keydown", event => {
  if (event.key == "Escape") back();
});
function open(chart, unit) {
  from = chart;
  const name = [chart.layer, chart.kind, Math.floor(unit / DATA.chunk)].join("-");
  withCards(name, () => {
    const card = loaded[name][unit % DATA.chunk], shown = Object.entries(card.shown);
    const button = element("button", "Back to the unit");
    button.addEventListener("click", back);
    show([element("h2", card.name), button, element("p", card.summary), element("p", card.role),
      element("p", said(chart, unit)),
      table("Groups", ["group", "points", "outputs"], card.groups),
      ...(card.stories.length ? [table("Claims", ["", "groups", "follows", "effect", "p (Holm)"],
        card.stories)] : []),
      ...shown.map(([what, rows]) => table("Points: " + what, ["output", "before", "token",
        "after"], rows))]);
  });
}
function said(chart, unit) {
  const parts = ["unit " + unit, "share " + chart.rank[unit] + " of " + chart.rank.length,
    chart.groups[unit] + (chart.groups[unit] == 1 ? " group" : " groups"),
    DATA.stories[chart.story[unit]] || "no story found"];
  if (chart.kept) parts.push(chart.kept[unit] ? "kept" : "cut");
  DATA.others.forEach((name, i) => parts.push(name + ": " + (chart.moved[i][unit] || "not there")));
  return parts.join("; ");
}
function draw(chart) {
  const ink = chart.canvas.getContext("2d"), units = chart.order.length;
  ink.fillStyle = "#fff"; ink.fillRect(0, 0, chart.canvas.width, chart.canvas.height);
  chart.order.forEach((unit, place) => {
    const x = SIZE * (place % COLUMNS), y = SIZE * Math.floor(place / COLUMNS);
    const light = Math.round(96 - 66 * Math.pow(1 - (chart.rank[unit] - 1) / units, 3));
    ink.fillStyle = "hsl(210 45% " + light + "%)";
    ink.fillRect(x, y, SIZE - 1, SIZE - 1);
    ink.fillStyle = ink.strokeStyle = light < 60 ? "#fff" : "#111";
    if (chart.story[unit]) ink.fillRect(x + 3, y + 3, 2, 2);
    if (chart.kept && !chart.kept[unit]) {
      ink.beginPath(); ink.moveTo(x, y + SIZE - 1); ink.lineTo(x + SIZE - 1, y); ink.stroke(); }
    if (place == chart.at) { ink.strokeStyle = "#b35900"; ink.lineWidth = 2;
      ink.strokeRect(x, y, SIZE - 1, SIZE - 1); ink.lineWidth = 1; }
  });
  const unit = chart.order[chart.at], words = said(chart, unit);
  chart.canvas.setAttribute("aria-valuenow", unit);
  chart.canvas.setAttribute("aria-valuetext", words);
  chart.words.textContent = words;
}
function arrange(chart) {
  const unit = chart.order ? chart.order[chart.at] : 0;
  chart.order = chart.rank.map((_, place) => place);
  if (document.getElementById("order").value == "share")
    chart.order.sort((a, b) => chart.rank[a] - chart.rank[b]);
  chart.at = chart.order.indexOf(unit);
  draw(chart);
}
const STEPS = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: COLUMNS, ArrowUp: -COLUMNS,
  PageDown: 8 * COLUMNS, PageUp: -8 * COLUMNS, Home: -1e9, End: 1e9};
DATA.charts.forEach(chart => {
  const units = chart.rank.length, columns = Math.min(units, COLUMNS);
  const name = "Layer " + chart.layer + ", " + chart.kind;
  chart.canvas = element("canvas", [], {width: SIZE * columns,
    height: SIZE * Math.ceil(units / COLUMNS), tabindex: 0, role: "slider",
    "aria-label": name + ", units", "aria-valuemin": 0, "aria-valuemax": units - 1});
  chart.words = element("p", [], {class: "said", "aria-hidden": true});
  document.getElementById("charts").append(element("section",
    [element("h3", name), chart.canvas, chart.words], {class: "chart"}));
  chart.canvas.addEventListener("click", event => {
    const box = chart.canvas.getBoundingClientRect(), scale = chart.canvas.width / box.width;
    const place = Math.floor((event.clientY - box.top) * scale / SIZE) * COLUMNS
      + Math.floor((event.clientX - box.left) * scale / SIZE);
    if (place >= units) return;
    chart.at = place; draw(chart); open(chart, chart.order[place]);
  });
  chart.canvas.addEventListener("keydown", event => {
    if (event.key in STEPS)
      chart.at = Math.max(0, Math.min(units - 1, chart.at + STEPS[event.key]));
    else if (event.key == "Enter" || event.key == " ") open(chart, chart.order[chart.at]);
    else return;
    event.preventDefault(); draw(chart);
  });
  arrange(chart);
});
document.getElementById("order").addEventListener("change", () => DATA.charts.forEach(arrange));
"""


def page(data: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The page.

    Args:
        data: ranks, groups, stories, what is kept and other models' ranks, unit by unit.
        rows: the numbers of each chart, for the table on top.
    """
    title = escape(data["title"])
    marks = "a dot: a story was told"
    if any(chart["kept"] is not None for chart in data["charts"]):
        marks += "; a stroke: the plan cuts the unit"
    told = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}{MORE_STYLE}</style></head><body><main><h1>{title}</h1>"
        f"{_summary(rows)}<h2>Units</h2><p>One square is one unit. Darker: a larger share of its "
        f"layer's persistence; {marks}. Arrow keys move, Enter or a click opens the unit's card, "
        'Escape leads back.</p><p><label>Order of the squares: <select id="order">'
        '<option value="number">by number'
        '</option><option value="share">by share</option></select></label></p>'
        '<div id="charts"></div><section id="card" tabindex="-1" aria-label="Card of a unit">'
        "<p>No unit is open.</p></section></main>"
        f"<script>const DATA={told};{SCRIPT}</script></body></html>\n"
    )


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    """What each layer and kind comes to, as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(_cell(name, row.get(name)) for name in names)}</tr>" for row in rows
    )
    return (
        '<div class="wide" tabindex="0"><table><caption>Layers and kinds</caption>'
        f"<tr>{head}</tr>{body}</table></div>"
    )


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, int):
        said = f"{value:,}"
    else:
        said = f"{value:.2f}" if name.startswith("ranks") else f"{100 * value:.0f} %"
    return f'<td class="n">{said}</td>'
