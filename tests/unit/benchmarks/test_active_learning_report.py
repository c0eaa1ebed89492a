"""What the report says of records whose figures are known."""

from __future__ import annotations

import pytest

from benchmarks.active_learning.group import grouped
from benchmarks.active_learning.record import RANDOM, Name, Round, read, read_all, write
from benchmarks.active_learning.report import BEGIN, END, report
from benchmarks.active_learning.target import best_strategy, default_strategy, targets


def put(folder, tissue, strategy, seed, heights, start="scratch", budget=None, profile="small", query=20):
    """A run with IoU `heights` at 20, 20 + `query`, ... patches."""
    name = Name(tissue, start, strategy, seed, profile)
    rounds = [
        Round(i + 1, 20 + query * i, h, 1000 * (i + 1), 100.0 * (i + 1), 7.0, 1.0, 0.5)
        for i, h in enumerate(heights)
    ]
    settings = {
        "tissue": tissue,
        "start": start,
        "strategy": strategy,
        "seed": seed,
        "profile": profile,
        "budget": budget or rounds[-1].patches,
    }
    write(folder / f"{name}.csv", settings, rounds)


@pytest.fixture
def runs(tmp_path):
    """Random choice rises by 0.1 to 0.5; `entropy` is 0.1 above it from the second round on, `clasp` 0.2."""
    folder = tmp_path / "runs"
    for seed in range(5):
        offset = 0.001 * seed
        for tissue in ("epfl", "vnc"):
            for strategy, gain in ((RANDOM, 0.0), ("entropy", 0.1), ("clasp", 0.2)):
                curve = [0.1 + offset, *(offset + height + gain for height in (0.2, 0.3, 0.4, 0.5))]
                put(folder, tissue, strategy, seed, curve)
    return folder


def test_a_record_is_read_as_it_was_written(tmp_path):
    name = Name("epfl", "parent", "entropy:0.75+stratified:0.25", 3)
    rounds = [
        Round(0, 0, 0.25, 0, 0.0, 0.0, 0.0, 0.5),
        Round(1, 20, 0.5, 7, 1.5, 2.0, 0.0, 0.5, "told, twice"),
    ]
    settings = {
        **{f: getattr(name, f) for f in ("tissue", "start", "strategy", "seed", "profile")},
        "budget": 20,
    }
    path = tmp_path / "run.csv"
    write(path, settings, rounds)
    record = read(path)
    assert (record.name, list(record.rounds), record.settings) == (name, rounds, settings)
    assert record.curve == {0: 0.25, 20: 0.5}


def test_gains_over_random_choice(runs):
    (group,) = [g for g in grouped(read_all(runs)) if g.tissue == "epfl"]
    assert group.strategies == [RANDOM, "clasp", "entropy"]
    clasp, entropy = group.compared()
    # 0.2 higher at four of five points, the first of which counts half, and so does the gain there.
    assert clasp.area.mean == pytest.approx((0.1 + 3 * 0.2) / 4)
    assert entropy.at[60].mean == pytest.approx(0.1)
    assert (entropy.area.better, entropy.area.count, entropy.seeds) == (5, 5, (0, 1, 2, 3, 4))
    assert (clasp.area.p, clasp.p) == (1 / 16, 2 / 16), "two comparisons: Holm doubles the smaller p"
    put(runs, "epfl", "margin", 0, [0.1, 0.2, 0.3, 0.4, 0.5])
    (group,) = [g for g in grouped(read_all(runs)) if g.tissue == "epfl"]
    assert [c.p for c in group.compared()] == [2 / 16, 2 / 16, None], (
        "one seed is no test, and costs the others none"
    )


def test_an_unfinished_run_is_in_no_table(runs):
    put(runs, "epfl", "margin", 3, [0.1, 0.9], budget=100)
    (group,) = [g for g in grouped(read_all(runs)) if g.tissue == "epfl"]
    assert "margin" not in group.strategies


def test_fresh_seeds_are_apart_and_may_end_earlier(runs):
    put(runs, "epfl", RANDOM, 5, [0.1, 0.2, 0.3])
    put(runs, "epfl", "clasp", 5, [0.1, 0.4, 0.5, 0.6])
    first, fresh = sorted(
        (g for g in grouped(read_all(runs)) if g.tissue == "epfl"), key=lambda g: g.is_fresh
    )
    assert (first.last, fresh.last) == (100, 60)
    assert first.seeds("clasp") == (0, 1, 2, 3, 4)
    (clasp,) = fresh.compared()
    assert clasp.seeds == (5,)
    assert clasp.area.mean == pytest.approx((0.1 + 0.2) / 2)
    assert clasp.curve == {20: 0.1, 40: 0.4, 60: 0.5}


def test_targets_need_five_seeds(runs):
    groups = grouped(read_all(runs))
    assert best_strategy(groups) == "clasp"
    found = {target.name: target for target in targets(groups)}
    gain = found["EPFL, `clasp` minus random from scratch, seeds 0 to 4, at one budget: at least +0.05"]
    assert gain.row[1:] == ("+0.200 [+0.200, +0.200] at 60, +0.200 [+0.200, +0.200] at 100", "PASS")
    name = "EPFL, `clasp` minus random from scratch, fresh seeds 5 to 9 at 60, where it is largest: at least +0.05"
    fresh = found[name]
    assert (fresh.passed, fresh.row[2]) == (False, "not run")
    # Random ends at 0.502; clasp has 0.502 at 60 patches of 100.
    labels = found["VNC, `clasp`: labels for random's final IoU, from scratch: at most 60 %"]
    assert labels.row[1:] == ("60.0%", "PASS")
    for seed in (3, 4):
        for tissue in ("epfl", "vnc"):
            (runs / f"{Name(tissue, 'scratch', 'clasp', seed)}.csv").unlink()
            (runs / f"{Name(tissue, 'scratch', 'entropy', seed)}.csv").unlink()
    few = {target.name: target for target in targets(grouped(read_all(runs)))}[gain.name]
    assert (few.passed, few.row[2]) == (False, "PASS so far, 3 seeds of 5")


def test_a_missed_target_fails(tmp_path):
    default = default_strategy()
    for seed in range(5):
        for tissue in ("epfl", "vnc"):
            put(tmp_path, tissue, RANDOM, seed, [0.5, 0.6, 0.7])
            put(tmp_path, tissue, default, seed, [0.5, 0.58, 0.68])
    found = {target.name: target.row for target in targets(grouped(read_all(tmp_path)))}
    assert found[f"VNC, the default (`{default}`) minus random, area from scratch: at least -0.01"][1:] == (
        "-0.015 [-0.015, -0.015]",
        "**FAIL**",
    )


def test_labels_that_a_parent_saves(runs):
    for seed in range(5):
        put(runs, "epfl", "clasp", seed, [0.5 + 0.001 * seed, 0.51 + 0.001 * seed, 0.6, 0.6, 0.6], "parent")
    found = {target.name: target.row for target in targets(grouped(read_all(runs)))}
    name = "EPFL, `clasp` with a parent: labels for random's final IoU from scratch: at most 25 %"
    assert found[name][1:] == ("20.0% or less", "PASS")
    assert found[name.replace("25 %", "10 % (stretch)")][2] == "**FAIL**"
    asking = name.replace("a parent", "a parent that chooses the first patches too")
    assert found[asking][2] == "not run"
    for seed in range(5):
        put(runs, "epfl", "clasp", seed, [0.4, 0.6, 0.6, 0.6, 0.6], "asking-parent")
    found = {target.name: target.row for target in targets(grouped(read_all(runs)))}
    # Random choice from scratch ends at 0.502: half way between 20 and 40 patches of 100.
    assert found[asking][1:] == ("30.2%", "**FAIL**")
    for seed in range(5):
        put(runs, "vnc", "clasp", seed, [0.3, 0.4], "parent")
    found = {target.name: target.row for target in targets(grouped(read_all(runs)))}
    assert found[name.replace("EPFL", "VNC")][1:] == ("not within 40 patches", "**FAIL**")


def test_random_choice_that_needs_no_model_starts_as_with_a_parent(runs):
    put(runs, "epfl", RANDOM, 0, [0.2, 0.3, 0.4], "parent")
    put(runs, "epfl", "clasp", 0, [0.3, 0.4, 0.5], "asking-parent")
    (group,) = [g for g in grouped(read_all(runs)) if g.start == "asking-parent"]
    assert group.strategies == [RANDOM, "clasp"]
    assert group.compared()[0].area.mean == pytest.approx(0.1)


def test_what_is_told_the_truth_is_not_the_best(runs):
    for seed in range(5):
        for tissue in ("epfl", "vnc"):
            put(runs, tissue, "known_errors", seed, [0.1, 0.9, 0.9, 0.9, 0.9])
    groups = grouped(read_all(runs))
    assert all("known_errors" in group.strategies for group in groups)
    assert best_strategy(groups) == "clasp"
    assert [(c.strategy, c.p) for c in groups[0].compared()] == [
        ("clasp", 2 / 16),
        ("entropy", 2 / 16),
        ("known_errors", None),
    ], "a trial costs the candidates nothing"


def test_small_queries_are_told_beside_scratch_with_large_ones(runs, tmp_path):
    for seed in range(5):
        # Random choice from scratch ends at 0.502: after 25 patches of 100.
        put(runs, "epfl", "clasp", seed, [0.45, 0.502, 0.6], "parent", profile="fives", query=5)
        put(runs, "epfl", RANDOM, seed, [0.45, 0.48, 0.55], "parent", profile="fives", query=5)
    found = {target.name: target.row for target in targets(grouped(read_all(runs)))}
    name = "EPFL, `clasp` with a parent and five patches a query: labels for random's final IoU from scratch"
    assert found[f"{name}: at most 25 %"][1:] == ("25.0%", "PASS")
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}")
    report(runs, page)
    section = page.read_text().partition("(profile `fives`)")[2]
    assert "| IoU at 20 | IoU at 30 |" in section
    assert "| `clasp` | 91% | 25% |" in section


def test_small_queries_from_scratch_have_targets_of_their_own(runs):
    for seed in range(5):
        put(runs, "epfl", "clasp", seed, [0.3, 0.4, 0.6], profile="fives", query=20)
        put(runs, "epfl", RANDOM, seed, [0.3, 0.35, 0.45], profile="fives", query=20)
    for seed in range(5, 10):
        put(runs, "epfl", "clasp", seed, [0.3, 0.4, 0.47], profile="fives", query=20)
        put(runs, "epfl", RANDOM, seed, [0.3, 0.35, 0.45], profile="fives", query=20)
    found = {target.name: target.row for target in targets(grouped(read_all(runs)))}
    name = "EPFL, `clasp` minus random from scratch, both with five patches a query"
    gain = found[f"{name}, seeds 0 to 4, at one budget: at least +0.05"]
    assert gain[1:] == ("+0.150 [+0.150, +0.150] at 60", "PASS")
    gain = found[f"{name}, fresh seeds 5 to 9 at 60, where it is largest: at least +0.05"]
    assert gain[1:] == ("+0.020 [+0.020, +0.020] at 60", "**FAIL**")
    # Random choice, 20 a query, ends at 0.502: half way between 40 and 60 patches of 100.
    name = "`clasp`: labels for random's final IoU, from scratch with five patches a query: at most 60 %"
    assert found[f"EPFL, {name}"][1:] == ("50.2%", "PASS")
    assert found[f"VNC, {name}"][2] == "not run"


def test_the_whole_pool_stands_beside_the_curves_and_in_none(runs, tmp_path):
    put(runs, "epfl", "everything", 0, [0.75], budget=20)
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}")
    report(runs, page)
    assert page.read_text().count("All 20 patches of the pool, as many steps: 0.750 (one seed).") == 1
    assert all("everything" not in group.strategies for group in grouped(read_all(runs)))


def test_the_report_is_written_between_its_marks(runs, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nyesterday\n{END}\nafter\n")
    assert report(runs, page) == 1, "targets are not met"
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "yesterday" not in text
    assert "| `clasp` | 5 | 0.102 ± 0.002 | 0.402 ± 0.002 |" in text
    assert "+0.175 [+0.175, +0.175] | 5 of 5 | 0.125 |" in text
    assert capsys.readouterr().out.strip() in text
    for tissue in ("epfl", "vnc"):
        assert (tmp_path / f"small-{tissue}-scratch.png").stat().st_size > 10_000
