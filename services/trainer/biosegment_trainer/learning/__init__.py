"""The learning core: usable with torch, MONAI and NumPy alone."""
