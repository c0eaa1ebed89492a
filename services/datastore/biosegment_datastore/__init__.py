"""The datastore of BioSegment."""
