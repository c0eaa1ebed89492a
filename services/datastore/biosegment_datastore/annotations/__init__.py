"""Annotations: commits, drafts, leases, and their projection into a layer."""
