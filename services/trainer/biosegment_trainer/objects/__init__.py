"""Numbers and meshes of objects: what a layer of instances says about each of them."""
