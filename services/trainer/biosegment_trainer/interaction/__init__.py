"""Interactive segmentation: clicks and strokes, answered by a warm process that is not the one that takes calls."""
