"""For people: tables as aligned text and Markdown, and how long something takes."""

from __future__ import annotations


def text_table(rows: list[list[str]]) -> str:
    """Rows as aligned text: the first column to the left, numbers to the right.

    >>> print(text_table([["unit", "score"], ["value 3", "0.52"]]))
    unit     score
    value 3   0.52
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def markdown_table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, numbers to the right.

    >>> print(markdown_table([["unit", "score"], ["value 3", "0.52"]]))
    | unit | score |
    |---|---:|
    | value 3 | 0.52 |
    """
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, "|---|" + "---:|" * (len(rows[0]) - 1), *body])


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(7.04), duration(200), duration(7000)
    ('7.0 s', '3.3 min', '1.9 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
