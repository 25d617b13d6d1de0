"""Recordings to maps without ROS: the same pipeline as the live node, fed from files."""
