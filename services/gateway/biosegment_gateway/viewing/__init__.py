"""What viewers are shown: OME-Zarr, tiles, signed links, Neuroglancer."""
