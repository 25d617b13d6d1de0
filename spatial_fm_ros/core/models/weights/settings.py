"""huggingface_hub, which reads its settings from the environment when it is imported, and its token from files."""

from __future__ import annotations

import os

from spatial_fm_ros.core.errors import ModelError
from spatial_fm_ros.core.io.names import shown_address

try:
    from huggingface_hub import constants, get_session
    from huggingface_hub.utils import build_hf_headers, validate_repo_id
except ValueError as error:  # an endpoint that is no address, in words that do not say so
    raise ModelError(
        f"HF_ENDPOINT is '{shown_address(os.environ.get('HF_ENDPOINT', ''))}', which is no address ({error}); set it "
        "to that of a hub, or unset it."
    ) from error

__all__ = ["build_hf_headers", "constants", "get_session", "validate_repo_id"]
