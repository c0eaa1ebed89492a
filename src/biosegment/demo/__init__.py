"""The main job from end to end, with a simulated annotator who answers from ground truth."""
