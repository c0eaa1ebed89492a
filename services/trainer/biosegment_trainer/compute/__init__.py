"""Where work is done: tasks, the Ray that runs them, and how a worker reports and reads voxels."""
