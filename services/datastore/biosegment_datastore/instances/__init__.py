"""Edits of the objects of layers of instances, and what the objects are after them."""
