"""Object storage and voxel arrays, on a folder or on any S3 endpoint.

`objects` keeps bytes under keys; `arrays` keeps voxels as sharded Zarr v3 below a key; `multiscale` writes
and reads the OME-Zarr 0.5 metadata that makes a pyramid of arrays one image. Import the submodules one by
one: a process that only needs bytes does not load the array engine.
"""
