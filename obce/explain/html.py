"""Cards as one HTML page that needs no other file, no script and no server."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem;
  color: #111; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 }
caption { text-align: left; font-weight: 600 }
th, td { padding: .1rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid #ccc }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
img { max-width: 100% }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0 } .wide { overflow-x: auto }
mark { background: #bcd4e6; color: #111; padding: 0 .2em }
"""


def page(cards: Sequence[dict[str, Any]], figures: Sequence[Figure], title: str) -> str:
    """One page.

    Args:
        cards: from :meth:`obce.explain.Card.as_dict`.
        figures: one per card.
        title: of the page.
    """
    body = [
        _card(card, figure, opened=len(cards) == 1)
        for card, figure in zip(cards, figures, strict=True)
    ]
    told = sum(any(story["passes"] for story in card["stories"]) for card in cards)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        '</title><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p>{told} of {len(cards)} units have a story that passed its test.</p>"
        f"{''.join(body)}</main></body></html>\n"
    )


def _card(card: dict[str, Any], figure: Figure, opened: bool) -> str:
    parts = [
        f"<details{' open' * opened}><summary>{escape(card['name'])}: {escape(card['summary'])}"
        "</summary>",
        f'<img src="data:image/svg+xml;base64,{_svg(figure)}" alt="{escape(_alt(card))}">',
        f"<p>{_role(card)}</p>",
        _groups(card),
        _stories(card),
        _silenced(card["silenced"]),
        *(_shown(name, rows) for name, rows in card["shown"].items()),
        "</details>",
    ]
    return "\n".join(parts)


def _svg(figure: Figure) -> str:
    drawn = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "obce", "svg.fonttype": "none"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    return base64.b64encode(drawn.getvalue()).decode()


def _alt(card: dict[str, Any]) -> str:
    longest = ", ".join(f"{bar:.3g}" for bar in card["bars"][:3])
    return (
        f"Histogram of {card['points']} outputs in {len(card['groups'])} groups, and the barcode, "
        f"whose longest bars are {longest}"
    )


def _role(card: dict[str, Any]) -> str:
    read_by, alike = card["read_by"], len(card["similar"])
    strongest = ", ".join(f"{to} ({weight:+.2f})" for to, weight in read_by["strongest"])
    return escape(
        f"{100 * card['share']:.2g} % of the layer's persistence, rank {card['rank']} of "
        f"{card['width']}. {alike} other units say nearly the same. Read by {read_by['by']}, most "
        f"by {read_by['to']}: {strongest or 'none'}."
    )


def _table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Numbers to the right; strings that begin with a tag are HTML already."""
    lines = [f"<tr>{''.join(f'<th scope=col>{escape(name)}</th>' for name in head)}</tr>"]
    for row in rows:
        cells = (
            f"<td>{each if each.startswith('<') else escape(each)}</td>"
            if isinstance(each, str)
            else f'<td class="n">{"" if each is None else f"{each:.3g}"}</td>'
            for each in row
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"{''.join(lines)}</table></div>"
    )


def _groups(card: dict[str, Any]) -> str:
    rows = [
        [g["group"], f"{g['size']:,}", 100 * g["share"], g["low"], g["high"]]
        for g in card["groups"]
    ]
    return _table("Groups", ["group", "points", "%", "lowest", "highest"], rows)


def _stories(card: dict[str, Any]) -> str:
    if not card["asked"]:
        return ""
    rows = [
        ["told" if s["passes"] else "not told", f"{s['first']} to {s['last']}", s["follows"],
         s["effect"], s["p"], s["precision"], s["recall"]]
        for s in card["stories"]
    ]  # fmt: skip
    head = ["", "groups", "follows", "effect", "p (Holm)", "precision", "recall"]
    return _table(
        f"What the sides of splits follow: the first of {card['asked']} claims", head, rows
    )


def _silenced(silenced: dict[str, Any] | None) -> str:
    if silenced is None:
        return ""
    rows = []
    for name in ("alone", "together"):
        if one := silenced.get(name):
            others = sorted(other["divergence"] for other in one["matched"])
            rows.append(
                [f"{name} ({len(one['units'])})", one["divergence"], one.get("changed"),
                 one.get("accuracy_before"), one.get("accuracy"),
                 ", ".join(f"{other:.2g}" for other in others),
                 f"more than {one['more_than']} of {len(others)}"]
            )  # fmt: skip
    head = ["silenced", "divergence", "predictions changed", "accuracy before", "after",
            "matched units' divergence", ""]  # fmt: skip
    moved = [[m["divergence"], m["before"], m["after"], m["said"]] for m in silenced["most_moved"]]
    return _table(f"Silence, over {silenced['texts']} texts", head, rows) + _table(
        "Texts that move most", ["divergence", "before", "after", "text"], moved
    )


def _shown(name: str, rows: Sequence[dict[str, Any]]) -> str:
    def said(row: dict[str, Any]) -> str:
        token = f"<mark>{escape(row['token'])}</mark>" if row["token"] else ""
        return f"<span>{escape(row['before'])} {token} {escape(row['after'])}</span>"

    cells = [[row["value"], row["group"], said(row)] for row in rows]
    return _table(f"Points: {name}", ["output", "group", "in context"], cells)
