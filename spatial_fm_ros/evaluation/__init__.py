"""How far results are from the truth: trajectory, depth, cloud, scale; and pictures of both."""
