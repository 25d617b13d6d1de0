"""What scripts/bench computes and writes, apart from the measuring itself."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

psutil = pytest.importorskip("psutil")

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

from benchmarks import cases, document, memory, processes, results  # noqa: E402

from spatial_fm_ros.core.errors import InputError  # noqa: E402
from spatial_fm_ros.evaluation.scoreboard import Score  # noqa: E402


def samples_of(rss):
    return [memory.Sample(10.0 * i, value, value, i, 1000) for i, value in enumerate(rss)]


def test_growth_is_that_of_the_line_after_the_warm_up():
    rng = np.random.default_rng(0)
    count = 180
    rss = 800 + 0.2 * np.arange(count) + rng.normal(0, 1.0, count)
    rss[: count // 10] -= np.linspace(500, 0, count // 10)  # filling up
    rss[rng.choice(count, 10)] += 300  # moments with a second copy of something
    samples = samples_of(rss)
    expected = 0.2 * 0.9 * (count - 1)
    assert memory.growth_mb(samples, [s.rss_mb for s in samples]) == pytest.approx(expected, abs=1.5)


def test_a_robust_line_equals_least_squares_where_nothing_is_off():
    samples = samples_of(500 + 0.05 * np.arange(100))
    times = np.array([s.simulated_s for s in samples])[10:]
    slope = np.polyfit(times, [s.rss_mb for s in samples][10:], 1)[0]
    assert memory.growth_mb(samples, [s.rss_mb for s in samples]) == pytest.approx(slope * np.ptp(times))


def test_too_few_samples_are_no_figure():
    assert math.isnan(memory.growth_mb([], []))
    with pytest.raises(InputError, match="too short"):
        memory.memory_scores(samples_of([1.0, 2.0]))


def test_names_and_groups():
    assert "soak" not in cases.chosen([])
    assert cases.chosen(["soak", "recorded"]) == ["kitchen", "kitchen_no_K", "fox", "soak"]
    assert set(cases.chosen(["all"])) == set(cases.CASES)
    with pytest.raises(InputError, match="Unknown benchmark 'kitchn'"):
        cases.chosen(["kitchn"])


@pytest.fixture(scope="module")
def had():
    return results.conditions(2)


def measured(had, name, required=True):
    scores = [
        Score("ATE", 0.02, "m", 0.06, 0.035),
        Score("share", 96.0, "%", 95.0, 100.0, True),
        Score("speed | wall", float("nan"), "1/s", 1.5, 4.0, True),
        Score("windows", 1234.0),
    ]
    return results.Result(name, f"case {name}", f"make bench-{name}", required, scores, conditions=had)


def test_results_survive_their_file(had, tmp_path):
    before = measured(had, "kitchen")
    (tmp_path / "kitchen").mkdir()
    results.write_result(before, tmp_path / "kitchen")
    after = results.read_results(tmp_path, ("fox", "kitchen"))[0]
    assert [s.verdict for s in after.scores] == ["aim", "floor", "MISSED", ""] == [s.verdict for s in before.scores]
    assert math.isnan(after.scores[2].value) and not after.passed
    assert document.details(after) == document.details(before)


def test_a_broken_result_file_is_named(tmp_path):
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "result.json").write_text('{"name": "fox"}')
    with pytest.raises(InputError, match=r"fox.result\.json"):
        results.read_results(tmp_path, ("fox",))


def test_the_document_says_what_was_reached_missed_and_not_measured(had):
    failed = results.Result("live", "the live node", "make bench-live", problem="exit code 2", conditions=had)
    page = document.document([measured(had, "kitchen"), measured(had, "oval", required=False), failed], ["soak"])
    required, others = page.split("## Other worlds")
    assert "| case kitchen | ATE | ≤ 0.06 m | ≤ 0.035 m | 0.02 m | aim reached | `make bench-kitchen` |" in required
    assert "|  | share | ≥ 95 % | ≥ 100 % | 96 % | reached | `make bench-kitchen` |" in required
    assert "| speed \\| wall | ≥ 1.5 1/s | ≥ 4 1/s | unknown | **missed** |" in required
    assert "| the live node | no figures |  |  | exit code 2 | **missed** | `make bench-live` |" in required
    assert "Not measured yet: `soak`." in required and "case oval" not in required
    assert "| case oval | 0.02 m, aim reached | 96 %, reached | unknown, **missed** |" in others
    for block in page.split("\n\n"):
        if block.startswith("|"):
            lines = [line.replace("\\|", "") for line in block.splitlines()]
            assert len({line.count("|") for line in lines}) == 1


def test_a_measured_program_runs_on_its_cores_and_ends_in_time(tmp_path):
    command = [sys.executable, "-c", "import os, sys; sys.exit(10 + len(os.sched_getaffinity(0)))"]
    assert processes.run_limited(command, 1, processes.limited_environment(1), 30.0) == 11
    child = tmp_path / "child"
    sleeper = (
        "import pathlib, subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'input()'], "
        f"stdin=subprocess.PIPE); pathlib.Path({str(child)!r}).write_text(str(child.pid)); child.wait()"
    )
    with pytest.raises(InputError, match="did not end within"):
        processes.run_limited([sys.executable, "-c", sleeper], 1, processes.limited_environment(1), 2.0)
    pid = int(child.read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "children end with it"
