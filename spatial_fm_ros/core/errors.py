"""The package's exceptions. Every message is a sentence: what was expected, what came, what to do."""


class SpatialFMError(Exception):
    """Root of all errors this package raises on purpose."""


class ConfigError(SpatialFMError):
    """A parameter is unknown, of the wrong type or out of range."""


class InputError(SpatialFMError):
    """A message, file or sample cannot be used; the one at fault is named."""


class ModelError(SpatialFMError):
    """A model cannot be loaded or cannot process a window."""


class OutputError(SpatialFMError):
    """A result cannot be written (no space, no permission, not a folder)."""
