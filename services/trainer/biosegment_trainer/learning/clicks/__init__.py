"""Correcting a mask with clicks: a small network that sees the image, the mask before, and where was clicked."""
