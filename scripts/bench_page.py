"""The results of the benches as one page with plots, and as the table in docs/performance.md.

    python scripts/bench_page.py [--results bench-out] [--page bench-out/index.html] [--table docs/performance.md]

Reads every `*.json` that a bench wrote with `--out`. The page is one file: inline SVG, no script, nothing fetched. The
table goes between the two lines `<!-- figures -->` of the document; what is around them is written by hand.
"""

from __future__ import annotations

import argparse
import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = "<!-- figures -->"
TITLES = {
    "ingest": "Ingest", "transform": "Transform", "compact": "Compact", "read": "Read", "history": "History",
    "scale": "Scale of a day",
}  # fmt: skip
STYLE = """
:root {
  --ink: #1b1f24; --soft: #5c6570; --line: #e3e7ec; --paper: #fff; --card: #f6f8fa;
  --ours: #1a6fb5; --peer: #b3bcc7; --bound: #7a9a53; --good: #1f7a3d; --bad: #b3401f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ed; --soft: #9aa5b1; --line: #313a44; --paper: #14181d; --card: #1b2128;
    --ours: #5aa9e6; --peer: #5d6874; --bound: #98b873; --good: #6ccf8b; --bad: #f0916f;
  }
}
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 2.5rem auto; padding: 0 1rem;
}
h1 { font-size: 2rem; margin: 0; }
h2 { margin: 3.5rem 0 .8rem; }
h3 { margin: 2.2rem 0 .2rem; }
p { max-width: 46rem; }
.soft, figcaption, summary { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0; font-size: .92rem; }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); font-weight: 400; }
th { color: var(--soft); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.met { color: var(--good); }
.missed { color: var(--bad); }
.not { color: var(--soft); }
.card { background: var(--card); border-radius: .7rem; padding: .9rem 1.3rem; margin: 1rem 0; }
.card h3 { margin: .3rem 0 .5rem; }
.goal {
  display: grid; grid-template-columns: 1fr 17rem 6.5rem; gap: .2rem 1.2rem; align-items: center; padding: .3rem 0;
}
.goal strong { text-align: right; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.track { position: relative; height: 1rem; background: var(--line); border-radius: .5rem; }
.track i { position: absolute; inset: 0 auto 0 0; border-radius: .5rem; background: currentColor; }
.track b, .track u { position: absolute; top: -.25rem; bottom: -.25rem; width: 2px; background: var(--ink); }
.track u { background: none; border-left: 2px dotted var(--soft); width: 0; }
figure { margin: .8rem 0; }
svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem; }
@media (max-width: 44rem) {
  .goal { grid-template-columns: 1fr 6.5rem; }
  .goal .track { grid-row: 2; grid-column: 1 / 3; }
}
"""


def words(value: float) -> str:
    """A figure with three digits that mean something."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Name of the file -> what a bench wrote, in the order of TITLES; what is not a bench's is left out."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    found = {name: one for name, one in found.items() if isinstance(one, dict) and one.get("bench") in TITLES}
    order = list(TITLES)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1]["bench"]), item[0])))


def parts_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparisons of a result. The bench of ingest tells of rates in a shape of its own."""
    if result["bench"] != "ingest":
        return list(result.get("parts", []))
    made = []
    for one in result["results"]:
        rate = f"paced at {one['pace']:,g} frames a second" if one["pace"] else "at full rate"
        sides = {
            name: {"cpu": side["cpu_us_per_frame"] * one["frames"] / 1e6, "wall": side["wall_seconds"],
                   "rss_mb": side["rss_mb"]}
            for name, side in one["sides"].items()
        }  # fmt: skip
        made.append(
            {"title": f"{one['frames']:,} frames {rate}", "note": "", "rounds": one["rounds"], "sides": sides,
             "ratios": one["ratios"], "ours": [name for name in sides if name.startswith("ours")],
             "equal": {name: side["records_equal"] for name, side in one["sides"].items()}}
        )  # fmt: skip
    return made


# -- plots ------------------------------------------------------------------------------------------------------------


def bars(part: Mapping[str, Any]) -> str:
    """CPU time of every side as lying bars, the least first, ours in a colour, each as times the first of ours."""
    ours = [name for name in part["ours"] if name in part["sides"]]
    sides = sorted(part["sides"].items(), key=lambda item: item[1]["cpu"])
    most = sides[-1][1]["cpu"] or 1
    row, left, width = 30, 150, 380
    drawn = []
    for place, (name, side) in enumerate(sides):
        y, length = 6 + place * row, max(2.0, width * side["cpu"] / most)
        colour = "--ours" if name in ours else "--bound" if name in ("codec", "list-polars", "bound") else "--peer"
        times = f"{words(side['cpu'] / part['sides'][ours[0]]['cpu'])} x" if ours and name != ours[0] else ""
        drawn.append(
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="20" rx="3" style="fill: var({colour})"/>'
            f'<text x="{left + length + 8:.1f}" y="{y + 16}" font-weight="600">{times}'
            f'<tspan class="soft" font-weight="400">  {spoken(side["cpu"])}, {side["rss_mb"]:,.0f} MB</tspan></text>'
        )
    height = 10 + row * len(sides)
    return f'<svg viewBox="0 0 780 {height}" width="780" height="{height}" role="img">{"".join(drawn)}</svg>'


def spoken(seconds: float) -> str:
    """CPU time in the unit that suits it."""
    return f"{words(seconds)} s" if seconds >= 1 else f"{words(seconds * 1000)} ms"


def line(curve: Mapping[str, Any]) -> str:
    """A curve over a size, both axes from zero, each point with its value."""
    points = [point for held in curve["lines"].values() for point in held]
    most_x, most_y = max(p[0] for p in points), max(p[1] for p in points) or 1
    width, height, left, low = 300, 150, 14, 24

    def place(point: Sequence[float]) -> tuple[float, float]:
        return left + (width - 70) * point[0] / most_x, height - (height - 30) * point[1] / most_y

    drawn = [f'<path d="M{left} 12V{height}H{width}" style="fill: none; stroke: var(--line)"/>']
    for held in curve["lines"].values():
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, held))
        drawn.append(f'<polyline points="{path}" style="fill: none; stroke: var(--ours); stroke-width: 2"/>')
        for point in held:
            x, y = place(point)
            drawn.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill: var(--ours)"/>'
                f'<text x="{x + 6:.1f}" y="{y - 6:.1f}">{words(point[1])}</text>'
                f'<text class="soft" x="{x:.1f}" y="{height + 16}" text-anchor="middle">{words(point[0])}</text>'
            )
    return f'<svg viewBox="0 0 {width} {height + low}" width="{width}" role="img">{"".join(drawn)}</svg>'


# -- the page ---------------------------------------------------------------------------------------------------------


def bound(goal: Mapping[str, Any], name: str = "must") -> str:
    """What a target asks for."""
    if goal[name] is None:
        return ""
    return f"{'≤' if goal['less'] else '≥'} {goal[name]:g} {goal['unit']}"


def verdict(goal: Mapping[str, Any]) -> str:
    return {True: "met", False: "missed", None: "not measured"}[goal["met"]]


def heads(*names: str) -> str:
    """The headings of columns of numbers."""
    return "".join(f'<th class="n">{html.escape(name)}</th>' for name in names)


def reach(ratio: float) -> float:
    """Where a tenth to ten times what must be lies on a track, as percent: what must be is in the middle."""
    return 50 * min(2.0, max(0.03, 1 + math.log10(ratio))) if ratio > 0 else 0.0


def goals(result: Mapping[str, Any]) -> Iterator[str]:
    """What must be reached, each figure as a bar towards its line."""
    if not result.get("targets"):
        return
    yield f'<div class="card"><h3>{TITLES[result["bench"]]}</h3>'
    for goal in result["targets"]:
        value, said = goal["value"], verdict(goal).split()[0]
        marks = '<b style="left: 50%"></b>'
        if goal["stretch"] is not None:
            further = goal["must"] / goal["stretch"] if goal["less"] else goal["stretch"] / goal["must"]
            marks += f'<u style="left: {reach(further):.1f}%"></u>'
        if value:
            far = goal["must"] / value if goal["less"] else value / goal["must"]
            marks = f'<i style="width: {reach(far):.1f}%"></i>' + marks
        asked = " · ".join(
            f"{word} {bound(goal, key)}"
            for word, key in (("must", "must"), ("moonshot", "stretch"))
            if bound(goal, key)
        )
        shown = "not measured" if value is None else f"{words(value)} {goal['unit']}"
        yield (
            f'<div class="goal"><div>{html.escape(goal["name"])}<br><span class="soft">{asked}</span></div>'
            f'<div class="track {said}">{marks}</div><strong class="{said}">{shown}</strong></div>'
        )
    yield "</div>"


def headline(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """How many targets are met, and where that was measured."""
    every = [goal for result in found.values() for goal in result.get("targets", [])]
    met, known = (sum(goal["met"] is one for goal in every) for one in (True, False))
    yield f"<h1>What it costs</h1><p><b>{met} of {met + known} measured targets met.</b> {PREFACE}</p>"
    for where in dict.fromkeys(machine(result["machine"]) for result in found.values()):
        yield f'<p class="soft">{html.escape(where)}</p>'
    yield (
        '<p class="soft">A bar that passes the line in the middle has what it must have, each half is ten times;'
        " the dotted line is the moonshot.</p>"
    )
    for result in found.values():
        yield from goals(result)


def machine(held: Mapping[str, Any]) -> str:
    """What the figures belong to."""
    return f"Python {held['python']}, {held['cpus']} x {held.get('cpu', '')}, {held['system']}"


def section(result: Mapping[str, Any]) -> Iterator[str]:
    """One bench."""
    yield f"<h2>{TITLES[result['bench']]}</h2>"
    for part in parts_of(result):
        unequal = [name for name, equal in part["equal"].items() if equal is False]
        proof = f"<b class=missed>records differ: {', '.join(unequal)}</b>" if unequal else "records proven equal"
        said = f"CPU time and peak memory, median of {part['rounds']} interleaved rounds, {proof}."
        yield f"<h3>{html.escape(part['title'])}</h3><figure>{bars(part)}"
        yield f"<figcaption>{said} {html.escape(part['note'])}</figcaption></figure>"
        if len(part["ours"]) > 1 and part["ratios"]:
            yield "<details><summary>every ratio</summary><table>"
            yield f"<tr><th>CPU, times that of</th>{heads(*part['ours'])}</tr>"
            peers = dict.fromkeys(name.partition(" / ")[0] for name in part["ratios"])
            for peer in peers:
                cells = [part["ratios"].get(f"{peer} / {mine}") for mine in part["ours"]]
                shown = "".join(f'<td class="n">{"" if cell is None else f"{cell:.2f} x"}</td>' for cell in cells)
                yield f"<tr><td>{html.escape(peer)}</td>{shown}</tr>"
            yield "</table></details>"
        yield from splits(part)
    if result.get("curves"):
        yield '<div class="grid">'
        for curve in result["curves"]:
            caption = f"{curve['title']} <span class=soft>{html.escape(curve.get('note', ''))}</span>"
            yield f"<figure><figcaption>{caption}</figcaption>{line(curve)}</figure>"
        yield "</div>"
    yield from lives(result)


def splits(part: Mapping[str, Any]) -> Iterator[str]:
    """Where the time of ours goes."""
    for name, side in part["sides"].items():
        if not side.get("split"):
            continue
        whole = sum(side["split"].values()) or 1
        yield f"<details><summary>where the time of {html.escape(name)} goes</summary>"
        yield f"<table><tr><th>stage</th>{heads('CPU', 'share')}</tr>"
        for stage, seconds in sorted(side["split"].items(), key=lambda item: -item[1]):
            cells = f'<td class="n">{spoken(seconds)}</td><td class="n">{100 * seconds / whole:.0f} %</td>'
            yield f"<tr><td>{html.escape(stage)}</td>{cells}</tr>"
        yield "</table></details>"


def lives(result: Mapping[str, Any]) -> Iterator[str]:
    """Simulated days, one a row."""
    if result.get("lives"):
        yield '<div class="wide"><table><tr>' + heads(
            "symbols", "trades/s each", "days", "lines", "CPU s", "peak RSS MB", "raw files", "most hot files",
            "daily files", "daily MB", "manifest MB", "ledger MB",
        ) + "</tr>"  # fmt: skip
        for life in result["lives"]:
            place = life["places"]
            cells = (
                life["symbols"], f"{life['rate']:g}", life["days"], f"{life['lines']:,}", words(life["cpu"]),
                words(life["rss_mb"]), f"{place['raw'][0]:,}", f"{life['hot_most']:,}", f"{place['tables'][0]:,}",
                words(place["tables"][1] / 1e6), words(life["manifest"] / 1e6), words(place["ledger"][1] / 1e6),
            )  # fmt: skip
            yield "<tr>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>"
        yield "</table></div>"
    if "book" in result:
        book = result["book"]
        yield (
            f"<p>A day of one book: {book['levels']:,} levels in {book['messages']:,} messages,"
            f" {spoken(book['cpu'])} of CPU, {book['rss_mb']:,.0f} MB at most,"
            f" {book['bytes'] / 1e6:,.0f} MB on disk.</p>"
        )


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    body = list(headline(found))
    for result in found.values():
        body.extend(section(result))
        held = result["machine"]
        versions = ", ".join(f"{name} {version}" for name, version in held["versions"].items())
        body.append(f'<p class="soft">{html.escape(versions)}; load {held.get("load", "?")}.</p>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>What it costs</title>'
    return f'<!doctype html><html lang="en">{head}<style>{STYLE}</style><body>{"".join(body)}</body></html>\n'


PREFACE = (
    "Every side does the same work in a process of its own, in turn, after a round that proved equal results. Figures"
    " are CPU time (user and system, all threads, children included); a ratio is the median over the rounds of peer /"
    " ours. The data are synthetic. Blue is ours, grey is what people use, green is a bound that no such tool can beat."
)


# -- the table --------------------------------------------------------------------------------------------------------


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as Markdown."""
    made = ["| target | measured | must | moonshot | |", "|---|---|---|---|---|"]
    for result in found.values():
        for goal in result.get("targets", []):
            value = "" if goal["value"] is None else f"{words(goal['value'])} {goal['unit']}"
            said = verdict(goal)
            said = f"**{said}**" if said == "missed" else said
            made.append(f"| {goal['name']} | {value} | {bound(goal)} | {bound(goal, 'stretch')} | {said} |")
    for name, result in found.items():
        for part in parts_of(result):
            made += ["", f"**{TITLES[result['bench']]}: {part['title']}.** {part['note']}".rstrip(), ""]
            ours = part["ours"]
            made += ["| side | CPU | peak RSS |" + "".join(f" x {mine} |" for mine in ours)]
            made += ["|---|---|---|" + "---|" * len(ours)]
            for side, one in part["sides"].items():
                cells = [part["ratios"].get(f"{side} / {mine}") for mine in ours]
                shown = " | ".join("" if cell is None else f"{cell:.2f}" for cell in cells)
                made.append(
                    f"| {side} | {spoken(one['cpu'])} | {one['rss_mb']:,.0f} MB | {shown}" + (" |" if ours else "")
                )
        held = result["machine"]
        versions = ", ".join(f"{package} {version}" for package, version in held["versions"].items())
        made += [
            "",
            f"`{name}.json`: Python {held['python']}, {held['cpus']} CPUs, load {held.get('load', '?')}; {versions}.",
        ]
    return "\n".join(made)


def main(given: list[str] | None = None) -> int:
    """The exit code: 0, 66 where there are no results."""
    parser = argparse.ArgumentParser(
        "bench_page.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench-out")
    parser.add_argument("--page", type=Path, default=ROOT / "bench-out" / "index.html")
    parser.add_argument("--table", type=Path, help="put the figures into this document")
    options = parser.parse_args(given)
    found = results(options.results)
    if not found:
        print(f"no results in {options.results}: run make bench")
        return 66
    options.page.write_text(page(found))
    print(options.page)
    if options.table is not None:
        before, _, after = options.table.read_text().split(MARK)
        options.table.write_text(f"{before}{MARK}\n{table(found)}\n{MARK}{after}")
        print(options.table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
