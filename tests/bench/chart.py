"""The outcome of all rows as a picture: how threadkit and its peers stand to the row's baseline."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape

from outcome import Outcome

LEFT, RIGHT, TOP = 260, 820, 64
BAR, GAP, HEAD = 16, 6, 34
FONT = 'font-family="system-ui, sans-serif" font-size="12"'
LEAST, MOST = 0.01, 100.0
OWN, OTHER, INK, FAINT = "#2563eb", "#9ca3af", "#111827", "#d1d5db"


def svg(outcomes: list[Outcome], subtitle: str) -> str:
    """Return the picture as the text of an SVG file."""
    shown = [outcome for outcome in outcomes if outcome.row.baseline and bars(outcome)]
    height = TOP + sum(HEAD + len(bars(outcome)) * (BAR + GAP) for outcome in shown) + 24
    width = RIGHT + 80
    title = "How many times as good as the baseline (longer is better, the scale is logarithmic)"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>',
            f'<rect width="{width}" height="{height}" rx="8" fill="white"/>',
            text(16, 24, title, INK, 'font-size="15" font-weight="600"'),
            text(16, 42, subtitle, OTHER),
            *grid(height),
            *panels(shown),
            "</svg>\n",
        ]
    )


def bars(outcome: Outcome) -> list[tuple[str, float]]:
    """Return each case with how many times as good as the baseline it is."""
    figure = outcome.row.figures[0]
    found = []
    for case in outcome.row.cases:
        ratio = outcome.ratio(case.name, outcome.row.baseline, figure.name)
        if ratio:
            found.append((case.name, ratio if figure.more_is_better else 1 / ratio))
    return found


def grid(height: int) -> Iterator[str]:
    """Draw a line at each power of ten."""
    for power in range(round(math.log10(LEAST)), round(math.log10(MOST)) + 1):
        x = place(10.0**power)
        width = 2 if power == 0 else 1
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 20}" stroke="{FAINT}" stroke-width="{width}"/>'
        yield text(x, height - 6, f"{10.0**power:g}x", OTHER, 'text-anchor="middle"')


def panels(outcomes: list[Outcome]) -> Iterator[str]:
    """Draw the bars of each row below its title."""
    y = float(TOP)
    for outcome in outcomes:
        title = outcome.row.title.format(size=f"{outcome.size:,}")
        yield text(16, y + 22, f"{outcome.row.name}: {title}", INK, 'font-weight="600"')
        y += HEAD
        for name, ratio in bars(outcome):
            yield from bar(y, name, ratio, OWN if outcome.row.case(name).is_own else OTHER)
            y += BAR + GAP


def bar(y: float, name: str, ratio: float, colour: str) -> Iterator[str]:
    """Draw one bar from the line of the baseline to its ratio."""
    start, end = sorted((place(1.0), place(ratio)))
    yield text(LEFT - 8, y + 12, name, INK, 'text-anchor="end"')
    yield f'<rect x="{start:.1f}" y="{y}" width="{max(2.0, end - start):.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    yield text(end + 6, y + 12, f"{ratio:.3g}x", INK)


def place(ratio: float) -> float:
    """Return where on the scale a ratio stands."""
    share = (math.log10(min(max(ratio, LEAST), MOST)) - math.log10(LEAST)) / (math.log10(MOST) - math.log10(LEAST))
    return LEFT + share * (RIGHT - LEFT)


def text(x: float, y: float, words: str, colour: str, attributes: str = "") -> str:
    """Write words."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" {attributes}>{escape(words)}</text>'
