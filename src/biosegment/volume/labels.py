"""The values of a class label block (uint8)."""

NOT_ANNOTATED = 0
"""Nobody looked here, or not for the classes of the scope; a loss ignores it."""

BACKGROUND = 1
"""An annotator looked: none of the classes of the scope."""

FIRST_CLASS = 2
"""The project's first class; the others follow, up to 255."""
