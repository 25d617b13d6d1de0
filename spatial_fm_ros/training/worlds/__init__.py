"""Worlds for training: drawn, looked at and photographed in torch, many scenes at once, on any device.

`generator.Generator` makes batches. Below it: `scenes` (which bodies stand where), `paths` (cameras), `casting`
(exact intersections of `solids`, `ground`), `textures` and `shading` (colour), `sensor` (what a camera makes of it).
World axes: x, y level, z up, metres. Camera axes: x right, y down, z forward.
"""
