"""A model that finds foreground in the wrong places: what annotators get then, and until when."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.rpc.sampler.conftest import Platform, Start
from tests.rpc.sampler.test_loop import annotate
from tests.rpc.sampler.test_progress_report import figures_of
from tests.rpc.sampler.test_scoring import ALL, use

pytestmark = pytest.mark.usefixtures("patient")


async def train(platform: Platform, figures: dict[str, float]) -> str:
    """A round of the loop; the model has these figures, and its scores are in use."""
    await annotate(platform, 1)
    await platform.step()
    model = platform.trainer.finish_training(platform.trainer.of_kind("train")[-1])
    (made,) = (each for each in platform.trainer.models if each.name == model)
    made.metrics.update(figures)
    await platform.step()
    platform.trainer.finish_scoring(platform.trainer.of_kind("score")[-1], ALL)
    await platform.step()
    assert (await platform.pool()).scored_model == model
    return model


async def test_half_of_the_samples_lead_away_from_a_misleading_model_until_a_newer_one_is_better(
    platform: Platform,
) -> None:
    await use(platform, "entropy")
    await train(platform, {})
    answer = await platform.claim("ann", count=2)
    assert {sample.strategy for sample in answer.samples} == {"entropy"}
    await train(platform, figures_of(0.01))
    answer = await platform.claim("bob", count=8)
    assert Counter(sample.strategy for sample in answer.samples)["entropy"] == 4
    assert "half of these samples" in answer.notice
    assert "mitochondria 0.01" in answer.notice
    assert "add regions of your own" in answer.notice
    await train(platform, figures_of(0.5))
    answer = await platform.claim("mia", count=3)
    assert {sample.strategy for sample in answer.samples} == {"entropy"}
    assert answer.notice == ""


async def test_what_is_known_of_a_model_survives_a_restart(start: Start) -> None:
    async with start() as platform:
        await use(platform, "entropy")
        await train(platform, figures_of(0.01))
    async with start() as platform:
        assert "mitochondria 0.01" in (await platform.claim("ann")).notice
