#!/usr/bin/env python3
"""Draws benches/chart.svg and fills the tables in benches/README.md and README.md from what the benches measured last.

    python3 benches/chart.py

Reads target/bench (cargo bench --bench servers) and target/criterion (--bench emission, --bench deliver_on). What has
not been measured stays as it is. Needs nothing but Python 3.
"""

import csv
import json
import math
import os
from html import escape
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# What the README shows: the text before the ratio, the scenario, the competitor.
HEADLINES = [
    ("echo of 128 B, 64 connections with 16 messages in flight", "echo 128 B, 16 in flight", "ours-subscribed"),
    ("the same through the server as one subject, as in the program above", "echo 128 B, 16 in flight", "ours-tagged"),
    ("echo of 128 B, one in flight", "echo 128 B, 1 in flight", "ours-subscribed"),
    ("echo of 16 KiB", "echo 16 KiB, 1 in flight", "ours"),
    ("echo of 1 MiB", "echo 1 MiB, 1 in flight", "ours"),
    ("one message to 500 clients, 16 at a time", "fan-out to 500, 16 at a time", "ours"),
]

# Filled in with the table, so that the two agree.
HEADLINE_NOTE = """\
*Best* is the fastest server that we could write by hand: tungstenite's core on tokio's sockets. The echoes of 128 B by
connection run beside a subscriber on the server, as in many programs, which hears another path."""


def main():
    raw = ROOT / "target/bench/servers.csv"
    if raw.exists():
        scenarios = read(raw)
        (ROOT / "benches/chart.svg").write_text(chart(scenarios))
        for name, tables in by_marker(raw.with_suffix(".md").read_text()).items():
            fill(ROOT / "benches/README.md", name, tables)
        fill(ROOT / "README.md", "headline", headline(scenarios))
    else:
        print("no run of `cargo bench --bench servers` to show")
    times = criterion_medians()
    for name, table in [("emission", emission_table(times)), ("deliver_on", deliver_on_table(times))]:
        if table:
            fill(ROOT / "benches/README.md", name, table)
        else:
            print(f"no run of `cargo bench --bench {name}` to show")


def fill(path, name, text):
    """Puts the text between the two markers of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    old = path.read_text()
    assert begin in old and end in old, f"{path} has no {begin} .. {end}"
    head, rest = old.split(begin, 1)
    path.write_text(head + begin + "\n" + text.strip() + "\n" + end + rest.split(end, 1)[1])
    print(f"{path.relative_to(ROOT)}: {name}")


def by_marker(text):
    """The tables as printed, by the markers between which they belong; what was measured on stands above each group."""
    machine, *tables = text.strip().split("\n\n")
    groups = {}
    for table in tables:
        first_row = table.splitlines()[2]
        names = {"| two threads": "threads", "| resumable": "resumable"}
        name = next((name for begin, name in names.items() if first_row.startswith(begin)), "servers")
        groups.setdefault(name, [machine]).append(table)
    return {name: "\n\n".join(group) for name, group in groups.items()}


# --- The servers ---


class Scenario:
    """The samples of each competitor, and the least ratio of each of ours."""

    def __init__(self):
        self.samples = {}
        self.least = {}

    def ratios(self, name, base="tuned"):
        """The base divided by the competitor, of the samples that were taken side by side."""
        return [other / sample for other, sample in zip(self.samples[base], self.samples[name])]

    def ratio(self, name, base="tuned"):
        return median(self.ratios(name, base))

    def quartiles(self, name):
        low, _, high = quantiles(self.ratios(name), n=4, method="inclusive")
        return low, high


def median(samples):
    """As the bench has it."""
    return sorted(samples)[len(samples) // 2]


def read(path):
    """The scenarios that have a ratio to reach, in the order measured."""
    scenarios = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file, delimiter=";"):
            scenario = scenarios.setdefault(row["scenario"], Scenario())
            scenario.samples[row["competitor"]] = [float(sample) for sample in row["samples"].split()]
            if row["least"]:
                scenario.least[row["competitor"]] = float(row["least"])
    return {name: scenario for name, scenario in scenarios.items() if scenario.least}


def headline(scenarios):
    lines = ["| messages in the same CPU time | rxplus ÷ tuned | rxplus ÷ best | rxplus ÷ usual |", "|---|--:|--:|--:|"]
    for text, name, competitor in HEADLINES:
        if name in scenarios:
            scenario = scenarios[name]
            ratio, to_best, to_usual = (scenario.ratio(competitor, base) for base in ("tuned", "best", "usual"))
            lines.append(f"| {text} | **{ratio:.2f}** | {to_best:.2f} | {to_usual:.1f} |")
    return "\n".join(lines) + "\n\n" + HEADLINE_NOTE


# --- The chart ---

WIDTH, LEFT, RIGHT, TOP = 860, 226, 64, 180
BAR, GAP, GROUP_GAP = 13, 5, 15
BACKGROUND, INK, FAINT, GRID = "#ffffff", "#1f2328", "#59636e", "#e3e7eb"
OURS, SUBSCRIBED, TAGGED = "#1a6fc4", "#3b8ad6", "#7db8ec"
BEST, USUAL, LEAST = "#848d97", "#c4cad1", "#d1430f"

LABELS = {
    "handshake": "handshakes",
    "client receiving 128 B": "client, receiving 128 B",
    "client sending 128 B": "client, sending 128 B",
}
BARS = {
    "ours": (OURS, "rxplus, each connection a subject"),
    "ours-subscribed": (SUBSCRIBED, "rxplus, the same beside a subscriber on the server"),
    "ours-tagged": (TAGGED, "rxplus, the server as one subject, a path for each connection"),
    "best": (BEST, "the best server we could write by hand"),
    "usual": (USUAL, "tokio-tungstenite as most write it"),
}


def chart(scenarios):
    highest = max(reach(scenario, bar) for scenario in scenarios.values() for bar in BARS if bar in scenario.samples)
    top_ratio = max(1.5, math.ceil(highest * 4) / 4)

    def x(ratio):
        return LEFT + ratio / top_ratio * (WIDTH - LEFT - RIGHT)

    rows, y = [], TOP
    for name, scenario in scenarios.items():
        bars = [bar for bar in BARS if bar in scenario.samples]
        height = len(bars) * (BAR + GAP) - GAP
        rows.append(text(LEFT - 14, y + height / 2 + 4.5, LABELS.get(name, name), anchor="end"))
        for bar in bars:
            rows += draw_bar(scenario, bar, y, x)
            y += BAR + GAP
        y += GROUP_GAP - GAP
    bottom = y - GROUP_GAP / 2
    height = bottom + 60
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" role="img" font-family="system-ui, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif">',
        "<title>CPU time of rxplus against a tuned hand-written tokio-tungstenite server</title>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:.0f}" rx="8" fill="{BACKGROUND}" stroke="{GRID}"/>',
        text(24, 36, "rxplus against a tuned hand-written WebSocket server", 19, weight="600"),
        text(24, 58, "Work done per CPU second, relative to tuned tokio-tungstenite. Longer is better.", 13, FAINT),
        *legend(),
        *axis(top_ratio, bottom, x),
        *rows,
        text(x(0), bottom + 40, "CPU time of the tuned server ÷ CPU time of the competitor, in the same run", 12, FAINT),
        "</svg>\n",
    ])


def reach(scenario, name):
    """The ratio where what is drawn of a competitor ends."""
    ends = [scenario.ratio(name)]
    if name in scenario.least:
        ends += [scenario.quartiles(name)[1], scenario.least[name]]
    return max(ends)


def draw_bar(scenario, name, y, x):
    ratio, (colour, _) = scenario.ratio(name), BARS[name]
    middle = y + BAR / 2
    parts = [rect(x(0), y, x(ratio) - x(0), BAR, colour)]
    is_ours = name in scenario.least
    if is_ours:
        low, high = scenario.quartiles(name)
        least = x(scenario.least[name])
        parts.append(line(x(low), middle, x(high), middle, INK, 1.5))
        parts += [line(x(end), middle - 3, x(end), middle + 3, INK, 1.5) for end in (low, high)]
        parts.append(line(least, y - 2.5, least, y + BAR + 2.5, BACKGROUND, 5))
        parts.append(line(least, y - 2.5, least, y + BAR + 2.5, LEAST, 2.5))
    left = x(reach(scenario, name)) + 7
    # Keeps the grid from crossing the number.
    parts.append(rect(left - 2, y, 34, BAR, BACKGROUND))
    size, ink, weight = (12.5, INK, "600") if is_ours else (11, FAINT, "400")
    parts.append(text(left, middle + 4.5, f"{ratio:.2f}", size, ink, weight=weight))
    return parts


def axis(top_ratio, bottom, x):
    parts = []
    step = 0.25 if top_ratio <= 2.5 else 0.5 if top_ratio <= 5 else 1
    for number in range(int(top_ratio / step) + 1):
        ratio = number * step
        ink, width = (FAINT, 1.5) if ratio == 1 else (GRID, 1)
        parts.append(line(x(ratio), TOP - 8, x(ratio), bottom, ink, width))
        parts.append(text(x(ratio), bottom + 17, f"{ratio:g}", 12, INK if ratio == 1 else FAINT, "middle"))
    parts.append(text(x(1), TOP - 14, "1 = the tuned server", 12, INK, "middle"))
    return parts


def legend():
    right, first, second, third = 390, 84, 106, 128
    parts = []
    places = [(24, first), (right, first), (24, second), (right, second), (24, third)]
    for name, (left, y) in zip(["ours", "ours-tagged", "ours-subscribed", "best", "usual"], places):
        colour, label = BARS[name]
        parts += [rect(left, y - 5, 14, 10, colour), text(left + 20, y + 4.5, label, 12, FAINT)]
    parts.append(line(right + 7, third - 7, right + 7, third + 7, LEAST, 2.5))
    parts.append(text(right + 20, third + 4.5, "the least the project demands", 12, FAINT))
    left = right + 220
    parts.append(line(left, third, left + 18, third, INK, 1.5))
    parts += [line(end, third - 3, end, third + 3, INK, 1.5) for end in (left, left + 18)]
    parts.append(text(left + 25, third + 4.5, "the middle half of the rounds", 12, FAINT))
    return parts


def text(x, y, words, size=13, fill=INK, anchor="start", weight="400"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def line(x1, y1, x2, y2, colour, width):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def rect(x, y, width, height, fill):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{fill}"/>'


# --- Criterion ---


def criterion_medians():
    """Nanoseconds by group, function and parameter."""
    times = {}
    for estimates in TARGET.glob("criterion/**/new/estimates.json"):
        ids = json.loads((estimates.parent / "benchmark.json").read_text())
        key = ids["group_id"], ids["function_id"], ids["value_str"]
        times[key] = json.loads(estimates.read_text())["median"]["point_estimate"]
    return times


def emission_table(times):
    """One line for each subject, one column for each number of observers: ours and the bare one's."""
    counts = ["1", "8", "64", "512"]
    lines = ["| one `next`, by observers | " + " | ".join(counts) + " |", "|---|" + "--:|" * len(counts)]
    for group, ours, bare, what, bare_what in [
        ("subject", "serialized", "bare", "`SerializedSubject`", "RxRust's `Shared::subject`"),
        ("tag", "serialized", "bare", "`SerializedSubject`, `tag`", "`Shared::subject`, `map`"),
        ("route_by_tag", "serialized", "bare, by filter", "`route_by_tag`, a tag for each", "a `filter` for each tag"),
    ]:
        rows = [[times.get((group, which, count)) for count in counts] for which in (ours, bare)]
        if None in rows[0] + rows[1]:
            return None
        lines.append(f"| {what} | " + " | ".join(nanoseconds(it) for it in rows[0]) + " |")
        lines.append(f"| {bare_what} | " + " | ".join(nanoseconds(it) for it in rows[1]) + " |")
        ratios = [f"**{bare_time / own:.2f}**" for own, bare_time in zip(*rows)]
        lines.append("| bare ÷ ours | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def deliver_on_table(times):
    group = "an item to another thread"
    bursts = sorted({int(key[2]) for key in times if key[0] == group})
    lines = ["| an item, in a burst of | `deliver_on` | RxRust's `observe_on` | observe_on ÷ deliver_on |",
             "|---|--:|--:|--:|"]
    for burst in bursts:
        own, other = (times[group, name, str(burst)] / burst for name in ("deliver_on", "observe_on"))
        lines.append(f"| {burst:,} | {nanoseconds(own)} | {nanoseconds(other)} | **{other / own:.2f}** |")
    return "\n".join(lines) if bursts else None


def nanoseconds(time):
    return f"{time:.0f} ns" if time < 10_000 else f"{time / 1000:.1f} us"


main()
