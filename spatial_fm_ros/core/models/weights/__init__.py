"""Weights of the foundation models: found, downloaded, checked and put into a network.

`source.resolve` finds the file, `files.read` maps it, `identify.identify` says whose it is, `load.fill` puts it
into a network built on the meta device, and `random.randomise` does so without a file, for benchmarks.
"""
