"""BioSegment: active-learning segmentation of volume electron microscopy."""

__version__ = "2.0.0a1"
