"""The gateway of BioSegment."""
