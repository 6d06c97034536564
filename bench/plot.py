# SPDX-License-Identifier: Apache-2.0
"""plot.py - figures over time as one SVG: a panel for each kind, below each other, over the same seconds.

    plot.write(path, title, times, [Panel("events a second", {"read": [..]}), Panel("MiB", {"resident": [..]})])

Written by hand: a line and a few words need no library, and the file is small enough for a README.
"""

from collections import namedtuple
from pathlib import Path
from xml.sax.saxutils import escape

Panel = namedtuple("Panel", "unit lines")  # lines: {name: one value for each time; None: a gap}

WIDTH, HEIGHT, LEFT, RIGHT, TOP, GAP = 720, 120, 80, 90, 40, 34
COLORS = ("#1f6feb", "#d1242f", "#1a7f37")
INK = "#656d76"  # readable on a light page and on a dark one


def round_up(value):
    """The next of 1, 2, 5, 10, 20 ..: where an axis ends."""
    step = 10.0 ** -9
    while True:
        for factor in (1, 2, 5):
            if step * factor >= value:
                return step * factor
        step *= 10


def text(x, y, words, color=INK, anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}">{escape(words)}</text>'


def panel_svg(panel, top, times):
    most = round_up(max([value for values in panel.lines.values() for value in values if value is not None], default=1))
    bottom, right = top + HEIGHT, LEFT + WIDTH
    parts = [text(LEFT, top - 8, panel.unit)]
    for share in (0, 0.5, 1):
        y = bottom - share * HEIGHT
        parts += [f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="{INK}" stroke-opacity="0.3"/>',
                  text(LEFT - 8, y + 4, f"{share * most:,.6g}", anchor="end")]
    for number, (name, values) in enumerate(panel.lines.items()):
        color, path, pen = COLORS[number % len(COLORS)], [], "M"
        for time, value in zip(times, values):
            if value is None:
                pen = "M"
                continue
            path.append(f"{pen}{LEFT + time / times[-1] * WIDTH:.1f} {bottom - value / most * HEIGHT:.1f}")
            pen = "L"
        parts += [f'<path d="{" ".join(path)}" fill="none" stroke="{color}" stroke-width="1.5"/>',
                  text(right + 8, top + 14 * number + 12, name, color)]
    return parts


def write(path, title, times, panels):
    height = TOP + len(panels) * (HEIGHT + GAP) + 20
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" font-family="sans-serif" '
             'font-size="12">', text(LEFT, 16, title)]
    for number, panel in enumerate(panels):
        parts += panel_svg(panel, TOP + 10 + number * (HEIGHT + GAP), times)
    parts += [text(LEFT, height - 6, "0 s"), text(LEFT + WIDTH, height - 6, f"{times[-1]:.0f} s", anchor="end"), "</svg>"]
    Path(path).write_text("\n".join(parts) + "\n")
