"""Plots as SVG without a library: horizontal bars and points, readable on light and on dark ground."""

from html import escape

from . import summary
from .proxies import ENVOY, HAPROXY, NGINX, PINGORA, RELAY, RINGGATE

WIDTH, LEFT, RIGHT, ROW, TOP = 800, 260, 90, 22, 56
# Told apart by colour where several gateways share a row.
COLOURED = (HAPROXY, PINGORA, ENVOY)
STYLE = """<style>
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 14px } .note { fill: #59636e; font-size: 11px }
  .ours { fill: #0969da } .floor { fill: #9a6700 } .peer { fill: #8c959f }
  .haproxy { fill: #1a7f37 } .pingora { fill: #8250df } .envoy { fill: #cf222e } .range { stroke: #1f2328; stroke-width: 1.2 }
  .grid { stroke: #d1d9e0; stroke-width: 1 } .one { stroke: #59636e; stroke-width: 1; stroke-dasharray: 4 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .ours { fill: #4493f8 } .floor { fill: #d29922 } .peer { fill: #656c76 }
    .haproxy { fill: #3fb950 } .pingora { fill: #ab7df8 } .envoy { fill: #f85149 }
    .range { stroke: #f0f6fc } .grid { stroke: #3d444d } .one { stroke: #9198a1 }
  }
</style>"""


def draw(folder, result, figures):
    """Writes the plots that the run has figures for; returns (title, file) of each."""
    drawn = []

    def put(name, title, text):
        if text:
            (folder / name).write_text(text)
            drawn.append((title, name))

    titles = summary.titles()
    for case in ("keep-alive-128", "keep-alive-16k", "open-2000"):
        title = f"CPU time per request: {titles[case]}"
        put(f"cpu-{case}.svg", title, bars(title, "µs, median and spread; less is better", _cpu(figures, case)))
    title = "CPU time per request, as a ratio of nginx"
    put("ratios.svg", title, ratios(title, figures, titles))
    for case in ("open-2000", "zipf-60"):
        title = f"Latency: {titles[case]}"
        put(f"latency-{case}.svg", title, latencies(title, figures.get(case, {})))
    idle = [(row["peer"], _same(row["bytes_each"] / 1024)) for row in result["idle"] if not row["error"]]
    title = "Resident memory for each of 10,000 idle connections"
    put("idle.svg", title, bars(title, "KiB; less is better", idle))
    return drawn


def _same(value):
    return {"median": value, "min": value, "max": value}


def _cpu(figures, case):
    return [(name, row["cpu_us"]) for name, row in figures.get(case, {}).items() if row["cpu_us"]]


def _class(name):
    return "ours" if name.startswith(RINGGATE) else "floor" if name == RELAY else "peer"


def nice_step(top, steps=5):
    """A round step of which about `steps` reach `top`."""
    if top <= 0:
        return 1.0
    raw, power = top / steps, 1.0
    while power * 10 <= raw:
        power *= 10
    while power > raw:
        power /= 10
    return next((power * factor for factor in (1, 2, 5) if power * factor >= raw), power * 10)


class _Canvas:
    def __init__(self, title, note, rows, top):
        self.step = nice_step(top)
        self.top = max(top, self.step)
        self.height = TOP + rows * ROW + 30
        self.out = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" role="img" '
            f'aria-label="{escape(title)}">',
            STYLE,
            f'<text class="title" x="12" y="22">{escape(title)}</text>',
            f'<text class="note" x="12" y="40">{escape(note)}</text>',
        ]
        tick = 0.0
        while tick <= self.top * 1.0001:
            x, bottom = self.x(tick), TOP + rows * ROW
            self.out.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
            self.out.append(f'<text class="note" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{tick:,.10g}</text>')
            tick += self.step

    def x(self, value):
        return LEFT + (WIDTH - LEFT - RIGHT) * min(value, self.top) / self.top

    def label(self, row, text):
        self.out.append(f'<text x="{LEFT - 8}" y="{TOP + row * ROW + 15}" text-anchor="end">{escape(text)}</text>')

    def value(self, row, at, text):
        self.out.append(f'<text class="note" x="{self.x(at) + 6:.1f}" y="{TOP + row * ROW + 15}">{escape(text)}</text>')

    def bar(self, row, value, kind, height=14):
        y = TOP + row * ROW + (ROW - height) / 2
        width = max(1.0, self.x(value) - LEFT)
        self.out.append(f'<rect class="{kind}" x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="{height}" rx="2"/>')

    def range(self, row, low, high):
        y = TOP + row * ROW + ROW / 2
        self.out.append(f'<line class="range" x1="{self.x(low):.1f}" x2="{self.x(high):.1f}" y1="{y}" y2="{y}"/>')

    def dot(self, row, value, kind, shift=0.0):
        y = TOP + row * ROW + ROW / 2 + shift
        self.out.append(f'<circle class="{kind}" cx="{self.x(value):.1f}" cy="{y:.1f}" r="4.5"/>')

    def text(self):
        return "\n".join([*self.out, "</svg>"]) + "\n"


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"


def bars(title, note, rows):
    """A bar for each gateway, with the spread of its rounds."""
    if not rows:
        return None
    canvas = _Canvas(title, note, len(rows), max(found["max"] for _, found in rows))
    for index, (name, found) in enumerate(rows):
        canvas.label(index, name)
        canvas.bar(index, found["median"], _class(name))
        if found["max"] > found["min"]:
            canvas.range(index, found["min"], found["max"])
        canvas.value(index, found["max"], _number(found["median"]))
    return canvas.text()


def ratios(title, figures, titles):
    """A row for each case: ours, and the others, against nginx at 1."""
    rows = []
    for case, found in figures.items():
        base = summary.median(figures, case, NGINX)
        if base:
            rows.append((titles[case], {name: row["cpu_us"]["median"] / base for name, row in found.items() if row["cpu_us"]}))
    if not rows:
        return None
    most = 3.0
    canvas = _Canvas(title, f"nginx is the dashed line at 1; up to {most:g}; less is better", len(rows), most)
    at = 358
    for name, kind in ((RINGGATE, "ours"), (RELAY, "floor"), *((name, name.lower()) for name in COLOURED), ("others", "peer")):
        canvas.out.append(f'<circle class="{kind}" cx="{at}" cy="36" r="4.5"/><text class="note" x="{at + 8}" y="40">{escape(name)}</text>')
        at += 20 + 6.2 * len(name)
    x, bottom = canvas.x(1.0), TOP + len(rows) * ROW
    canvas.out.append(f'<line class="one" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
    for index, (name, found) in enumerate(rows):
        canvas.label(index, name if len(name) <= 42 else name[:41] + "…")
        for proxy in sorted(found, key=lambda one: _class(one) == "ours"):
            if found[proxy] <= most and "," not in proxy and proxy != NGINX:
                canvas.dot(index, found[proxy], proxy.lower() if proxy in COLOURED else _class(proxy))
        if RINGGATE in found:
            canvas.value(index, most, f"{found[RINGGATE]:.2f}")
    return canvas.text()


def latencies(title, found):
    """p50, p99 and p99.9 of each gateway that held the rate: a bar each, and the spread of the rounds."""
    rows = []
    for name, row in found.items():
        if row["held"] is False or not row["p50_us"]:
            continue
        rows += [(f"{name} {words}", row[figure]) for figure, words in (("p50_us", "p50"), ("p99_us", "p99"), ("p99_9_us", "p99.9"))]
    rows = [row for row in rows if row[1]]
    return bars(title, "µs from the intended start, median and spread; less is better", rows)
