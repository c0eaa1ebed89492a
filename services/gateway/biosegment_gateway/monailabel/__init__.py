"""The REST API of MONAI Label over projects, for 3D Slicer's plugin, its Reviewer and the Python client."""
