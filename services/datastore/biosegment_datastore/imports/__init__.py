"""Imports: files become volumes, layers and annotations, in processes of their own."""
