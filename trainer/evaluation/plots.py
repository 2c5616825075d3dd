"""The report's pictures, drawn by matplotlib as SVG that stands in the page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

INK, SOFT, GRID = "#22332b", "#6b7c73", "#dfe7e1"
GREEN, OCHRE, RED, BLUE = "#2f7d5b", "#c98a1b", "#b4483c", "#3b6fa0"
TAXA = {"Aves": BLUE, "Amphibia": GREEN, "Insecta": OCHRE, "Mammalia": RED, "Other": SOFT}
BEDS = {"still air": INK, "rain": BLUE, "wind": SOFT, "stream": GREEN, "insects": OCHRE}


def slices_plot(parts: Mapping[str, Any]) -> str:
    """Macro mAP of each slice with its interval, family by family; small ones hollow."""
    shown = [one for one in parts.values() if one["mean_ap"] is not None]
    figure, axes = _figure(9.2, 0.7 + 0.27 * max(1, len(shown)))
    for n, one in enumerate(reversed(shown)):
        colour = SOFT if one["small"] else TAXA.get(one["name"], GREEN)
        if one["mean_ap_interval"]:
            axes.plot(one["mean_ap_interval"], [n, n], color=colour, lw=2.2, alpha=0.45, solid_capstyle="round", clip_on=False)
        axes.plot(one["mean_ap"], n, "o", ms=7, color=colour, mfc="white" if one["small"] else colour, mew=1.6, clip_on=False, zorder=3)
        axes.text(1.03, n, f"{one['mean_ap']:.2f}", va="center", fontsize=9, color=INK)
        axes.text(1.085, n, f"n = {one['positives']}", va="center", fontsize=8.5, color=SOFT)
    axes.set_yticks(range(len(shown)), [one["name"] for one in reversed(shown)])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.set_xlim(0, 1.0)
    axes.axvline(0.5, color=RED, lw=1, ls=(0, (2, 3)))
    axes.set_xlabel("macro mAP, 95 % over recordings; hollow: fewer than 30 positives; dotted: the gate")
    axes.grid(axis="x", color=GRID)
    return _svg(figure)


def rivals_plot(parts: Mapping[str, Any]) -> str:
    """Macro mAP of the release and of its rivals on each kind of material."""
    bars = []
    for kind, found in parts.items():
        bars.append((f"release, {kind}", found["mean_ap"], found["mean_ap_interval"], GREEN))
        for name, one in found["rivals"].items():
            bars.append((f"{name.replace('_', ' ')}, {kind}", one["mean_ap"], one["mean_ap_interval"], "#b9c6be"))
    bars = [bar for bar in bars if bar[1] is not None]
    figure, axes = _figure(9.2, 0.7 + 0.27 * max(1, len(bars)))
    for n, (_, value, interval, colour) in enumerate(reversed(bars)):
        axes.barh(n, value, height=0.62, color=colour)
        if interval:
            axes.plot(interval, [n, n], color=INK, lw=1.1)
        axes.text(max(value, interval[1] if interval else 0) + 0.015, n, f"{value:.3f}", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), [bar[0] for bar in reversed(bars)])
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("macro mAP")
    axes.grid(axis="x", color=GRID)
    return _svg(figure)


def strain_plot(curves: Mapping[str, Sequence[Mapping[str, float]]], what: str, label: str) -> str:
    """One panel of how many call at once, one of how strong the call is over each bed; `what` is a point's field."""
    figure, (left, right) = _figure(9.2, 3.2, 2)
    for name, points in curves.items():
        axes, bed = (left, "still air") if name == "calls at once" else (right, name.removeprefix("over "))
        colour = GREEN if name == "calls at once" else BEDS.get(bed, SOFT)
        axes.plot([one["strength"] for one in points], [one[what] for one in points], "o-", color=colour, lw=1.8, ms=4.5, label=bed)
    left.set_xticks([1, 2, 3, 4])
    left.set_xlabel("species calling at once")
    right.invert_xaxis()
    right.set_xlabel("call over background, dB")
    right.legend(frameon=False, fontsize=8.5, loc="lower left")
    for axes in (left, right):
        axes.set_ylim(0, 1.04)
        axes.set_ylabel(label)
        axes.grid(color=GRID)
    return _svg(figure)


def confusion_plot(names: Sequence[str], table: Sequence[Sequence[int]]) -> str:
    """Truth by row, answer by column, shaded by the share of the row."""
    figure, axes = _figure(5.2, 4.4)
    shares = [[cell / max(1, sum(row)) for cell in row] for row in table]
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1.15)
    for y, row in enumerate(table):
        for x, cell in enumerate(row):
            if cell:
                axes.text(x, y, str(cell), ha="center", va="center", fontsize=9.5, color="white" if shares[y][x] > 0.6 else INK)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("what was named")
    axes.set_ylabel("what was there")
    axes.tick_params(length=0)
    return _svg(figure)


def precision_recall_plot(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Precision over recall, all together and taxon by taxon."""
    figure, axes = _figure(4.6, 3.8)
    for name, points in curves.items():
        everyone = name == "all"
        axes.plot(
            [recall for recall, _ in points], [precision for _, precision in points],
            color=INK if everyone else TAXA.get(name, SOFT), lw=2.4 if everyone else 1.3, label=name,
        )  # fmt: skip
    _unit(axes, "recall", "precision")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    return _svg(figure)


def reliability_plot(bins: Sequence[Mapping[str, float]]) -> str:
    """The share that was true over the score that was said; the larger the dot, the more scores."""
    figure, axes = _figure(4.6, 3.8)
    axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=(0, (2, 3)))
    axes.plot([one["said"] for one in bins], [one["true"] for one in bins], color=GREEN, lw=1.4)
    sizes = [18 + 8 * one["n"] ** 0.4 for one in bins]
    axes.scatter([one["said"] for one in bins], [one["true"] for one in bins], s=sizes, color=GREEN, clip_on=False)
    _unit(axes, "score that was said", "share that was true")
    return _svg(figure)


def frequency_plot(species: Sequence[Mapping[str, Any]]) -> str:
    """How often each species was named over how often it was there."""
    figure, axes = _figure(4.6, 3.8)
    most = max([1, *(max(one["there"], one["named"]) for one in species)]) * 1.1
    axes.plot([0, most], [0, most], color=SOFT, lw=1, ls=(0, (2, 3)))
    for taxon, colour in TAXA.items():
        own = [one for one in species if one["taxon"] == taxon]
        if own:
            axes.scatter([one["there"] for one in own], [one["named"] for one in own], s=30, color=colour, label=taxon, alpha=0.85)
    axes.set_xlim(0, most)
    axes.set_ylim(0, most)
    axes.set_xlabel("rows in which it was there")
    axes.set_ylabel("rows in which it was named")
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=8.5)
    return _svg(figure)


def _unit(axes: Any, x: str, y: str) -> None:
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.04)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID)


def _figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    found = figure.subplots(1, panels)
    for axes in [found] if panels == 1 else found:
        axes.set_facecolor("none")
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=9, length=0)
        axes.xaxis.label.set_color(SOFT)
        axes.yaxis.label.set_color(SOFT)
        axes.xaxis.label.set_size(9)
        axes.yaxis.label.set_size(9)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure, found


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    body = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "svg.hashsalt": "soundscape"}):
        figure.savefig(body, format="svg", transparent=True, metadata={"Date": None})
    text = body.getvalue()
    return text[text.index("<svg") :]
