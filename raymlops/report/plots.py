"""Plots as inline SVG. Knows nothing of the page around them, save its CSS colours.

Each plot is drawn for a width in CSS pixels, so that its letters have the same size on a phone and on a desk. Colours
are CSS variables, so that one drawing serves light and dark. The same input gives the same text.
"""

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from raymlops.report.words import judged, metric_name, value

__all__ = ["heat_map", "quality", "sweep"]

Periods = Sequence[Mapping[str, Any]]

# Stand-ins that matplotlib takes for colours, and the variables of page.html that they become.
_INK, _MUTED, _RULE, _FIRST, _SECOND, _ALARM = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
_PAPER, _THIRD = "#010107", "#010108"
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    _FIRST: "var(--first)",
    _SECOND: "var(--second)",
    _THIRD: "var(--third)",
    _ALARM: "var(--alarm)",
    _PAPER: "var(--paper)",
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MOST_FEATURES = 24
_LETTER = 11.0


def quality(monitor: Mapping[str, Any], retrained: Sequence[Mapping[str, Any]], *, width: int) -> str:
    """Draw the metric of each period: the champion's, each retrained version's, and the validation value as a line."""
    names = [entry["period"] for entry in monitor["periods"]]
    again = [
        (made, (_SECOND, _THIRD)[turn % 2], f"fitted on {_cut(made['on'])}") for turn, made in enumerate(retrained)
    ]
    series = [(monitor, _FIRST, "champion"), *again]
    beside = max(len(label) for label in ("validation", *(label for _, _, label in series))) * _LETTER * 0.58 + 14
    figure, axes = _figure(width, 250, left=44, right=beside if width > 500 else 14, bottom=40, top=14)
    metric = monitor["metric"]
    axes.axhline(monitor["validation"], color=_MUTED, linewidth=1, dashes=(3, 3))
    lines = []
    for evidence, color, label in series:
        held = {entry["period"]: entry["metric"] for entry in evidence["periods"] if entry["metric"] is not None}
        at = [index for index, name in enumerate(names) if name in held]
        values = [held[names[index]] for index in at]
        _broken_line(axes, at, values, color)
        if at:
            lines.append((label, color, at, values))
    _values_beside(axes, lines, periods=len(names), width=width)
    _ends(axes, lines, monitor["validation"], last=len(names) - 1, width=width)
    _period_ticks(axes, names, width)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.margins(y=0.22)
    axes.grid(axis="y", color=_RULE, linewidth=1)
    axes.locator_params(axis="y", nbins=5)
    return _svg(figure, f"quality-{width}", f"{metric_name(metric)} by period, {judged(metric)}")


def heat_map(periods: Periods, *, test: str, width: int) -> str:
    """Draw the distance of each feature in each period; what is over its limit is drawn in the alarm's colour."""
    names = [entry["period"] for entry in periods]
    features = most_drifted(periods, test=test)
    longest = max((len(_cut(name)) for name in features), default=0)
    left = min(longest * _LETTER * 0.56 + 12, width * 0.36)
    row = 24
    figure, axes = _figure(width, row * len(features) + 44, left=left, right=4, bottom=40, top=4)
    cell = (width - left - 4) / max(len(names), 1)
    for y, feature in enumerate(features):
        for x, entry in enumerate(periods):
            _cell(axes, x, y, entry["drift"][feature][test], numbered=cell >= 30)
    for edge in range(1, len(names)):
        axes.axvline(edge - 0.5, color=_PAPER, linewidth=1.5)
    for edge in range(1, len(features)):
        axes.axhline(edge - 0.5, color=_PAPER, linewidth=1.5)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(features) - 0.5, -0.5)
    axes.set_yticks(range(len(features)), [_plain(_cut(name)) for name in features])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", colors=_INK)
    _period_ticks(axes, names, width - left)
    return _svg(figure, f"drift-{width}", f"{test.upper()} of {len(features)} features in {len(names)} periods")


def _cell(axes: Any, x: int, y: int, found: Mapping[str, Any], *, numbered: bool) -> None:
    from matplotlib.patches import Rectangle

    share = min(found["distance"] / found["limit"], 3.0)
    drifted = found["drifted"]
    strength = 0.30 + 0.35 * max(share - 1, 0) if drifted else 0.05 + 0.35 * min(share, 1)
    color = _ALARM if drifted else _FIRST
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, alpha=strength, edgecolor="none"))
    if drifted and numbered:
        ink = _PAPER if strength > 0.75 else _INK
        axes.text(x, y, f"{found['distance']:.2f}", ha="center", va="center", fontsize=9.5, color=ink)


def sweep(trials: Sequence[Mapping[str, Any]], *, metric: str, winner: int, width: int) -> str:
    """Draw each trial's metric, a row a trainer; the winner is ringed. Trials without the metric are not drawn."""
    trainers = list(dict.fromkeys(trial["trainer"] for trial in trials))
    left = max((len(_cut(name)) for name in trainers), default=0) * _LETTER * 0.56 + 14
    figure, axes = _figure(width, 46 * len(trainers) + 46, left=left, right=20, bottom=38, top=8)
    for y, trainer in enumerate(trainers):
        axes.axhline(y, color=_RULE, linewidth=1, zorder=0)
        points = [(trial["index"], trial["metric"]) for trial in trials if trial["trainer"] == trainer]
        drawn = [(index, found) for index, found in points if found is not None]
        color = (_FIRST, _SECOND, _THIRD)[y % 3]
        # Golden-ratio steps spread neighbours in the search without a random number.
        offsets = [((index * 0.618034) % 1 - 0.5) * 0.5 for index, _ in drawn]
        spots = [y + offset if index != winner else y for offset, (index, _) in zip(offsets, drawn, strict=True)]
        axes.scatter([found for _, found in drawn], spots, s=34, color=color, alpha=0.55, linewidths=0)
        for index, found in drawn:
            if index == winner:
                axes.scatter([found], [y], s=120, facecolors="none", edgecolors=_INK, linewidths=1.5)
                axes.annotate(
                    f"trial {index}: {value(found)}", (found, y), xytext=(0, 11), textcoords="offset points",
                    ha="center", va="bottom", fontsize=_LETTER, color=_INK, annotation_clip=False,
                )  # fmt: skip
    axes.set_yticks(range(len(trainers)), [_plain(_cut(name)) for name in trainers])
    axes.set_ylim(len(trainers) - 0.4, -0.75)
    axes.margins(x=0.12)
    axes.tick_params(axis="y", colors=_INK)
    axes.locator_params(axis="x", nbins=4 if width < 500 else 7)
    axes.set_xlabel(
        f"{metric_name(metric)} on validation, {judged(metric)}", color=_MUTED, fontsize=_LETTER, labelpad=6
    )
    return _svg(figure, f"sweep-{width}", f"{metric_name(metric)} of {len(trials)} trials by trainer")


def most_drifted(periods: Periods, *, test: str) -> list[str]:
    """Return the features to show, the furthest first: at most 24."""
    features = list(periods[0]["drift"]) if periods else []
    peak = {name: max(entry["drift"][name][test]["distance"] for entry in periods) for name in features}
    return sorted(features, key=lambda name: (-peak[name], name))[:_MOST_FEATURES]


def _figure(width: int, height: float, *, left: float, right: float, bottom: float, top: float) -> Any:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"font.size": _LETTER, "font.family": "sans-serif", "axes.unicode_minus": False}):
        # 72 dots an inch: one point of the drawing is one CSS pixel.
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
        axes = figure.add_axes(box)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    axes.tick_params(length=0, labelsize=_LETTER, colors=_MUTED, pad=6)
    axes.set_axisbelow(True)
    return figure, axes


def _broken_line(axes: Any, at: Sequence[int], values: Sequence[float], color: str) -> None:
    """A period without a value breaks the line: nothing is known between its neighbours."""
    start = 0
    for stop in range(1, len(at) + 1):
        if stop == len(at) or at[stop] != at[stop - 1] + 1:
            axes.plot(at[start:stop], values[start:stop], color=color, linewidth=2, solid_capstyle="round")
            start = stop
    axes.plot(at, values, color=color, linewidth=0, marker="o", markersize=6, markeredgewidth=0)


def _values_beside(axes: Any, lines: Sequence[Any], *, periods: int, width: int) -> None:
    """Write values at the points where there is room: the highest line's above, the lowest's below, no others."""
    if periods * 44 > width:
        return
    for x in range(periods):
        here = sorted((ys[xs.index(x)], color) for _, color, xs, ys in lines if x in xs)
        for y, color in {here[0], here[-1]} if here else ():
            above = (y, color) == here[-1]
            axes.annotate(
                value(y, digits=3), (x, y), xytext=(0, 8 if above else -8), textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=10, color=color,
                bbox={"facecolor": _PAPER, "edgecolor": "none", "pad": 0.5},
            )  # fmt: skip


def _ends(axes: Any, lines: Sequence[Any], validation: float, *, last: int, width: int) -> None:
    """Name each line at its end; where there is no room beside the plot, the page names them above it."""
    if width <= 500:
        return
    labels = [(label, color, values[-1]) for label, color, _, values in lines] + [("validation", _MUTED, validation)]
    for (name, color, y), shift in zip(labels, _apart(axes, labels), strict=True):
        axes.annotate(
            _plain(name), (last + 0.5, y), xytext=(8, shift), textcoords="offset points", fontsize=_LETTER, color=color,
            va="center", annotation_clip=False,
        )  # fmt: skip


def _apart(axes: Any, labels: Sequence[tuple[str, str, float]]) -> list[float]:
    """Return shifts in pixels that keep labels a line's height apart, in the order of their values."""
    axes.margins(y=0.22)
    axes.autoscale_view()
    spots = [axes.transData.transform((0, y))[1] for _, _, y in labels]
    order = sorted(range(len(spots)), key=lambda index: spots[index])
    placed: dict[int, float] = {}
    below = float("-inf")
    for index in order:
        below = max(spots[index], below + 15)
        placed[index] = below
    return [placed[index] - spots[index] for index in range(len(spots))]


def _period_ticks(axes: Any, names: Sequence[str], width: float) -> None:
    months = all(re.fullmatch(r"\d{4}-\d\d", name) for name in names)
    room = 38 if months else max((len(name) for name in names), default=1) * _LETTER * 0.56 + 20
    every = max(1, round(-(-len(names) * room // max(width - 60, 1))))
    shown = list(range(0, len(names), every))
    axes.set_xticks(shown, [_plain(_month(names[i], first=i == 0) if months else names[i]) for i in shown])


def _month(name: str, *, first: bool) -> str:
    year, month = name.split("-")
    return _MONTHS[int(month) - 1] + (f"\n{year}" if first or month == "01" else "")


def _cut(name: str) -> str:
    """Long names often differ at their end."""
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"


def _plain(text: str) -> str:
    """A dollar sign would start a formula."""
    return text.replace("$", r"\$")


def _svg(figure: Any, name: str, label: str) -> str:
    """Return the drawing as an element: colours as variables, no namespaces, only the ids that are used."""
    from html import escape

    from matplotlib import rc_context

    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True)
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>\s*", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'\s(?:xmlns(?::xlink)?)="[^"]*"', "", drawn)
    used = set(re.findall(r'#([\w.-]+)["\')]', drawn))
    drawn = re.sub(r'\sid="([^"]*)"', lambda found: found.group() if found.group(1) in used else "", drawn)
    for stand_in, variable in _VARIABLES.items():
        drawn = drawn.replace(stand_in, variable)
    head = f'<svg role="img" aria-label="{escape(label, quote=True)}"'
    return re.sub(r'\s(?:width|height)="[\d.]+pt"', "", drawn, count=2).replace("<svg", head, 1)
