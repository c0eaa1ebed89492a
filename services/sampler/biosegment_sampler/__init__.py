"""The sampler of BioSegment."""
