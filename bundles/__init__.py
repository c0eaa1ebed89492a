"""The models that BioSegment ships: how they are trained, evaluated and checked."""
