"""Exports: volumes, layers and segmentations become files."""
