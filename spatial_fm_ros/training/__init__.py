"""Training of the model `nano` on worlds drawn as they are needed. Not installed with the package.

Needs torch, numpy and safetensors only; `python -m spatial_fm_ros.training --help`, docs/training.md.
"""
