"""A network's cameras and depth, made exact by the images where these can tell, and standing where they cannot."""
