"""Spatial foundation models on ROS 2: images in, a metric map out."""

from pkgutil import extend_path

# Run from the checkout, this folder hides the built package; its generated msg and srv are found all the same.
__path__ = extend_path(__path__, __name__)
