"""From a few strokes to a segmentation, with no trained model at all: a pixel classifier on features of the image."""
