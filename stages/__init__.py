"""hintdistill: turn an agent's failures into hints, hints into better trajectories, and those into weights."""
