"""docs/benchmarks.md, made from results alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.results import Result
from spatial_fm_ros.evaluation.scoreboard import Score

VERDICTS = {"aim": "aim reached", "floor": "reached", "MISSED": "**missed**"}
HEAD = """# Benchmarks

Written by `scripts/bench` from what it measured; nothing here is edited by hand. `make bench` measures everything but
the soak, `make bench-soak` the soak, `make bench-all` both, `make bench-NAME` one case or group (`recorded`,
`simulated`); results are kept in `out/bench/`. Measured programs run in processes of their own on two cores, the soak
on all. How figures are defined stands in [evaluation.md](evaluation.md), what the simulated worlds are in
[simulation.md](simulation.md). Recorded sequences are found through SPATIAL_FM_DATA, or in ../shared/data beside the
checkout.
"""


def document(results: Sequence[Result], missing: Sequence[str]) -> str:
    """The page. `missing`: names of cases that were never measured."""
    required = [r for r in results if r.required]
    compared = [r for r in results if not r.required and any(score.floor is not None for score in r.scores)]
    parts = [HEAD, "## Conditions", conditions_words(results), "## What has to be reached", required_table(required)]
    if missing:
        parts.append("Not measured yet: " + ", ".join(f"`{name}`" for name in missing) + ".")
    for result in results:
        if result.problem and not result.required:
            parts.append(f"{result.title}: {result.problem}.")
    if compared:
        words = "The same figures in other worlds, with the bounds of the first for comparison."
        parts += ["## Other worlds", words, compared_table(compared)]
    parts.append("## All figures")
    parts += [details(result) for result in results]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def required_table(results: Sequence[Result]) -> str:
    """A line for each bound, under the first of each case its title."""
    rows = []
    for result in results:
        command = f"`{result.command}`"
        lines = [
            (score.name, *bounds(score), worded(score.value, score.unit), VERDICTS[score.verdict], command)
            for score in result.scores
            if score.floor is not None
        ]
        if result.problem:
            lines = [("no figures", "", "", result.problem, VERDICTS["MISSED"], command)]
        rows += [(result.title if i == 0 else "", *line) for i, line in enumerate(lines)]
    return table(("case", "measure", "required", "aim", "measured", "verdict", "command"), rows)


def compared_table(results: Sequence[Result]) -> str:
    """A line for each result, a column for each figure that has a bound."""
    names = list(dict.fromkeys(s.name for r in results for s in r.scores if s.floor is not None))
    rows = []
    for result in results:
        by_name = {score.name: score for score in result.scores}
        cells = [
            f"{worded(by_name[n].value, by_name[n].unit)}, {VERDICTS[by_name[n].verdict]}" if n in by_name else ""
            for n in names
        ]
        rows.append((result.title, *(cells if result.scores else [result.problem, *cells[1:]]), f"`{result.command}`"))
    return table(("drive", *names, "command"), rows)


def details(result: Result) -> str:
    """All figures of one case."""
    had = result.conditions
    heading = f"### {result.title[:1].upper()}{result.title[1:]}"
    cores = f"{had['cores_used']} of {had['machine']['cores']} cores"
    words = f"{had['when']}, commit {had['commit'] or 'unknown'}, on {cores}; other programs kept "
    words += f"{had['busy_cores']:.1f} cores busy just before; {result.wall_s:.0f} s in all. `{result.command}`"
    if result.problem:
        return f"{heading}\n\n{words}\n\nNo figures: {result.problem}"
    rows = [(s.name, worded(s.value, s.unit), s.note) for s in result.scores]
    return f"{heading}\n\n{words}\n\n" + table(("figure", "measured", ""), rows)


def conditions_words(results: Sequence[Result]) -> str:
    """Machines and versions, each named once."""
    lines: list[str] = []
    for result in results:
        line = machine_words(result.conditions)
        if line not in lines:
            lines.append(line)
    minutes = sum(result.wall_s for result in results) / 60
    lines.append(
        f"All {len(results)} cases took {minutes:.0f} minutes. Under each case stands how busy the machine was."
    )
    return "\n\n".join(lines)


def machine_words(had: dict[str, Any]) -> str:
    host = had["machine"]
    known = ", ".join(f"{name} {number}" for name, number in had["versions"].items())
    return f"{host['processor']}, {host['cores']} cores, {host['system']}; {known}."


def bounds(score: Score) -> tuple[str, str]:
    """Floor and aim in words."""
    sign = "≥" if score.higher_is_better else "≤"
    return tuple(f"{sign} {worded(b, score.unit)}" if b is not None else "" for b in (score.floor, score.aim))  # type: ignore[return-value]


def worded(value: float, unit: str) -> str:
    """Three significant digits."""
    if not math.isfinite(value):
        return "unknown"
    digits = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}".strip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; a bar inside a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
