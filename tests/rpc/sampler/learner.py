"""Trains and scores with the trainer's learning core, in this process: what its jobs do, without the cluster."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from biosegment_trainer.learning.dataset import AnnotatedRegion
from biosegment_trainer.learning.network import LabelClass, NetworkConfig, NetworkModel
from biosegment_trainer.learning.normalisation import SliceStatistics
from biosegment_trainer.learning.optimisation import TrainingConfig
from biosegment_trainer.learning.passes import PassesConfig
from biosegment_trainer.learning.prediction import PredictionConfig, Predictor
from biosegment_trainer.learning.training import train

from biosegment.api.datastore.v1alpha1 import annotation_pb2
from biosegment.api.job.v1alpha1 import job_pb2
from biosegment.rpc.geometry import region_from_proto
from biosegment.synthetic import generate
from biosegment.volume import BACKGROUND, FIRST_CLASS, Index, Region

SHAPE = Index(16, 128, 128)
CONFIG = TrainingConfig(
    network=NetworkConfig.unet((8, 16), (2,), 1),
    patch_size=32,
    batch_size=4,
    learning_rate=5e-3,
    ema_decay=0.5,
    steps=100,
)


class Learner:
    """A network and a volume with the truth about it."""

    def __init__(self, seed: int = 2) -> None:
        raw, mask = generate(tuple(SHAPE), seed)
        self.raw, self.truth = raw, mask > 0
        self.model: NetworkModel | None = None
        self._statistics = SliceStatistics.of_slices(raw)

    def counts(self, region: Region) -> dict[int, int]:
        """Voxels by class of what an annotator who knows the truth answers."""
        shown = int(self.truth[region.slices].sum())
        return {BACKGROUND: region.size - shown} | ({FIRST_CLASS: shown} if shown else {})

    def train(self, annotations: list[annotation_pb2.Annotation], steps: int = CONFIG.steps) -> None:
        """A child of the last model, of the answers in these regions."""
        whole = Region.of_shape(SHAPE)
        examples = []
        for annotation in annotations:
            region = region_from_proto(annotation.region)
            context = region.padded((0, 16, 16), whole)
            examples.append(
                AnnotatedRegion(
                    region_id=annotation.name,
                    volume_id="v1",
                    region=region,
                    context=context,
                    raw=self.raw[context.slices],
                    labels=np.where(self.truth[region.slices], FIRST_CLASS, BACKGROUND).astype(np.uint8),
                    scope=frozenset({FIRST_CLASS}),
                    statistics=self._statistics[context.start.z : context.stop.z],
                    factor=1,
                )
            )
        classes = [LabelClass(FIRST_CLASS, "mitochondria")]
        config = replace(CONFIG, steps=steps)
        self.model = train(
            config, examples, self.model, classes=classes, seed=len(examples), device="cpu"
        ).model

    def score(self, spec: job_pb2.ScoreSpec) -> dict[str, np.ndarray]:
        """Score maps by measure, (z, cells y, cells x * channels)."""
        return self._predict(tuple(spec.measures), spec.passes)[1]

    def found(self) -> float:
        """IoU of what the model predicts and the truth."""
        labels, _ = self._predict((), job_pb2.Passes())
        predicted = labels == FIRST_CLASS
        return float((predicted & self.truth).sum() / (predicted | self.truth).sum())

    def _predict(
        self, measures: tuple[str, ...], passes: job_pb2.Passes
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        assert self.model is not None
        config = PredictionConfig(
            measures=measures,
            passes=PassesConfig(passes.mc_dropout, passes.test_time_augmentation),
            backend="eager",
        )
        predictor = Predictor(self.model, config, "cpu")
        parts = list(
            predictor.predict(
                lambda region: self.raw[region.slices], Region.of_shape(SHAPE), SHAPE, self._statistics
            )
        )
        labels = np.concatenate([part.labels for part in parts])
        return labels, {name: np.concatenate([part.scores[name] for part in parts]) for name in measures}
