"""The HTTP face of the gateway: page, JSON, OME-Zarr."""
