"""Pictures of the report as SVG within the page: 360 units wide, so that a phone shows them in their own size."""

from dpo.data.findings.findings import THRESHOLDS, percent
from dpo.data.findings.lengths import Histogram, Step
from dpo.data_report.html import Html, join, tag

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 10, 350, 12, 160  # of the drawing
COLOURS = {"prompt": "#57606a", "chosen": "#1a7f37", "rejected": "#cf222e", "margin": "#0550ae"}
GRID = "#d0d7de"


def histogram(found: Histogram, series: list[str], about: str) -> Html:
    """Outlines over one axis, each series with the same area."""
    edges = found.edges
    span = edges[-1] - edges[0]
    present = [name for name in series if name in found.counts]
    shares = {name: _shares(found.counts[name]) for name in present}
    highest = max((max(values) for values in shares.values()), default=0) or 1.0

    def x(value: float) -> float:
        return LEFT + (value - edges[0]) / span * (RIGHT - LEFT)

    def y(share: float) -> float:
        return BOTTOM - share / highest * (BOTTOM - TOP)

    drawn = []
    for name in present:
        corners = [f"{x(e):.1f},{y(s):.1f}" for i, s in enumerate(shares[name]) for e in edges[i : i + 2]]
        path = f"M{LEFT},{BOTTOM} L{' L'.join(corners)} L{RIGHT},{BOTTOM}"
        colour = COLOURS[name]
        drawn.append(tag("path", d=path, fill=colour, fill_opacity=0.18, stroke=colour, stroke_width=1.5))
    ticks = [edges[0] + span * part / 4 for part in range(5)]
    labels = [f"{tick:,.0f}" if span >= 8 else f"{tick:.2g}" for tick in ticks]
    labels[-1] += "+"
    anchors = ("start", "middle", "middle", "middle", "end")
    axis = [_label(label, x(tick), BOTTOM + 16, how) for label, tick, how in zip(labels, ticks, anchors, strict=True)]
    return _picture([_line(BOTTOM), *drawn, *axis], about, present)


def by_ratio(steps: list[Step]) -> Html:
    """How often the longer answer is chosen, by how many times longer it is: bars from the line of chance."""
    slot = (RIGHT - LEFT) / len(steps)

    def y(share: float) -> float:
        return BOTTOM - 20 - share * (BOTTOM - 20 - TOP)

    drawn = [_line(y(0.5), dashed=True), _label("50 %", LEFT, y(0.5) - 4, "start")]
    for i, step in enumerate(steps):
        middle = LEFT + slot * (i + 0.5)
        last = i == len(steps) - 1
        drawn.append(_label(f"{step.at_least:g}x{'+' if last else ''}", middle, BOTTOM, "middle"))
        drawn.append(_label(f"{step.pairs:,}", middle, BOTTOM + 16, "middle", small=True))
        if step.longer_chosen is not None:
            share = step.longer_chosen
            top, height = min(y(share), y(0.5)), abs(y(share) - y(0.5))
            colour = COLOURS["chosen" if share >= 0.5 else "rejected"]
            size = {"width": f"{slot * 0.6:.1f}", "height": f"{height:.1f}"}
            bar = tag("rect", x=f"{middle - slot * 0.3:.1f}", y=f"{top:.1f}", fill=colour, fill_opacity=0.55, **size)
            beyond = top - 4 if share >= 0.5 else top + height + 12
            drawn += [bar, _label(percent(share), middle, beyond, "middle", small=True)]
    return _picture(drawn, "share of pairs whose longer answer is chosen, by the ratio of the two lengths", [])


def gauge(accuracy: float) -> Html:
    """The accuracy of the length-only rule between chance and certainty."""
    warn, bad = THRESHOLDS["length"]
    low, high, top = 0.45, 0.85, 24

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (RIGHT - LEFT)

    zones = ((low, 0.5 + warn, "#2da44e"), (0.5 + warn, 0.5 + bad, "#d4a72c"), (0.5 + bad, high, "#cf222e"))
    drawn = [
        tag("rect", x=f"{x(start):.1f}", y=top, width=f"{x(end) - x(start):.1f}", height=14, fill=colour)
        for start, end, colour in zones
    ]
    at = x(accuracy)
    drawn.append(tag("path", d=f"M{at:.1f},{top + 16} l-7,-22 h14 z", fill="#1f2328"))
    drawn.append(_label(percent(accuracy), min(max(at, 24), WIDTH - 24), top - 9, "middle"))
    drawn += [
        _label(f"{percent(v)}{' chance' if v == 0.5 else ''}", x(v), top + 30, "middle") for v in (0.5, 0.65, 0.8)
    ]
    return tag("svg", *drawn, viewBox=f"0 0 {WIDTH} 60", role="img", aria_label="accuracy of a rule on lengths alone")


def _shares(counts: list[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _line(y: float, dashed: bool = False) -> Html:
    dashes = {"stroke_dasharray": "4 3"} if dashed else {}
    return tag("line", x1=LEFT, x2=RIGHT, y1=f"{y:.1f}", y2=f"{y:.1f}", stroke="#8c959f" if dashed else GRID, **dashes)


def _label(words: str, x: float, y: float, anchor: str, small: bool = False) -> Html:
    return tag(
        "text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, font_size=10 if small else 12, fill="#1f2328"
    )


def _picture(drawn: list[Html], about: str, series: list[str]) -> Html:
    svg = tag("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=about)
    keys = [join([tag("span", "■", style=f"color:{COLOURS[name]}"), Html(f" {name} ")]) for name in series]
    return tag("figure", svg, tag("figcaption", *(keys if len(series) > 1 else []), about))
