"""Recorded inputs: bags, image folders, videos and sequence folders as streams of core samples."""
