"""Strategies of this package and of other distributions, installed as pip leaves them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from biosegment_sampler.strategies import STRATEGIES, Strategy, registry
from biosegment_sampler.strategies.registry import own_strategies, with_third_parties

from tests.unit.sampler.pool import candidates_of

BUILT_IN = {
    "random", "stratified", "foreground_random", "entropy", "least_confidence", "margin", "bald", "tta_disagreement",
    "slice_disagreement", "kmeans", "coreset", "clasp", "power_entropy", "power_bald", "entropy_kmeans", "badge",
    "typiclust",
}  # fmt: skip
MODULE = """
import numpy as np
from biosegment_sampler.domain.ranking import in_order
from biosegment_sampler.strategies import Strategy

def rank(candidates):
    return in_order(np.arange(len(candidates))[::-1])

backwards = Strategy("backwards", "From the last to the first. Nobody 2026.", rank)
entropy = Strategy("entropy", "Not what it says. Nobody 2026.", rank)
number = 7
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution that brings a good strategy, two bad ones and a taken name."""
    (tmp_path / "upside_down.py").write_text(MODULE)
    (tmp_path / "crashing.py").write_text("raise RuntimeError('no licence')\n")
    info = tmp_path / "upside_down-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: upside-down\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{registry.GROUP}]\nbackwards = upside_down:backwards\ncrash = crashing:strategy\n"
        "missing = upside_down:nothing\nnumber = upside_down:number\nentropy = upside_down:entropy\n"
    )
    return tmp_path


def own() -> dict[str, Strategy]:
    import biosegment_sampler.strategies as package

    return own_strategies(package.__name__, package.__path__)


def test_every_module_with_a_strategy_is_found_under_its_own_name() -> None:
    found = own()
    folder = Path(registry.__file__).parent
    assert set(found) == {path.stem for path in folder.glob("*.py") if "\nSTRATEGY = " in path.read_text()}
    assert set(found) >= BUILT_IN
    for name, strategy in found.items():
        assert strategy.rank.__module__.rpartition(".")[2] == name


def test_an_installed_distribution_adds_its_strategy_and_cannot_harm(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    with structlog.testing.capture_logs() as logs:
        found = with_third_parties(own())
    assert set(found) == {*own(), "backwards"}
    assert found["entropy"] is STRATEGIES["entropy"]
    assert found["backwards"].rank(candidates_of({}, count=4)).order.tolist() == [3, 2, 1, 0]
    refused = {log["entry_point"]: log for log in logs}
    assert set(refused) == {"crash", "missing", "number", "entropy"}
    assert "no licence" in refused["crash"]["why"]
    assert "already" in refused["entropy"]["why"]
    assert {log["distribution"] for log in logs} == {"upside-down"}
    assert all(log["log_level"] == "error" for log in logs)


def test_a_sampler_starts_with_a_broken_distribution(site: Path) -> None:
    code = "from biosegment_sampler.strategies import find_strategy; print(find_strategy('backwards').description)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert "From the last to the first." in done.stdout
    assert "no licence" in done.stdout + done.stderr


def test_the_documentation_has_every_strategy_with_its_measures() -> None:
    text = (Path(__file__).parents[3] / "docs" / "strategies.md").read_text()
    rows = re.findall(r"^\|[^|]*\| `(\w+)` \|[^|]*\|[^|]*\|([^|]*)\|$", text, re.M)
    documented = {name: set(re.findall(r"`(\w+)`", needs)) for name, needs in rows}
    # That is scored along with every measure.
    beside = {"class_probability"}
    assert {name: needs - beside for name, needs in documented.items()} == {
        name: set(strategy.measures) - beside for name, strategy in own().items()
    }
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "STRATEGY" in block)
    names: dict[str, Any] = {}
    exec(example, names)
    probabilities = candidates_of({"class_probability": [0.1, 0.5, 0.7, np.nan]})
    assert names["STRATEGY"].rank(probabilities).order.tolist() == [1, 2, 0]


def test_strategies_say_what_they_need_and_show() -> None:
    assert STRATEGIES["clasp"].shown == "entropy"
    assert STRATEGIES["kmeans"].shown == STRATEGIES["random"].shown == ""
    assert [name for name, strategy in STRATEGIES.items() if strategy.cold_start] == sorted(
        {"near_foreground", "random", "stratified"} & set(STRATEGIES)
    )
    assert np.unique([strategy.description for strategy in STRATEGIES.values()]).size == len(STRATEGIES)
