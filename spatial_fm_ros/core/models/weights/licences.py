"""The published checkpoints and what their licences allow.

Sizes are those of the weights in float32; licences are those on the model cards of the hub.
"""

from __future__ import annotations

from dataclasses import dataclass

VGGT = "vggt"
DEPTH_ANYTHING_3 = "depth_anything_3"
NANO = "nano"  # comes with the package, is not on the hub


@dataclass(frozen=True)
class Licence:
    """What a checkpoint's licence allows; `condition` is what it asks for, as part of a sentence."""

    name: str
    commercial: bool
    condition: str = ""

    @property
    def sentence(self) -> str:
        """For the log, printed at every load."""
        use = "commercial use is allowed" if self.commercial else "no commercial use"
        return f"{self.name}: {use}{', ' if self.condition else ''}{self.condition}"


@dataclass(frozen=True)
class Published:
    """A checkpoint on the hub: `parameters` of the stored tensors, all float32."""

    id: str
    model: str
    variant: str
    parameters: int
    licence: Licence
    gated: bool = False

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return 4 * self.parameters


APACHE = Licence("Apache-2.0", True)
CC_BY_NC = Licence("CC BY-NC 4.0", False, "the authors must be named")
VGGT_LICENCE = Licence("VGGT licence", True, "military use is forbidden; its acceptable use policy applies")

PUBLISHED: tuple[Published, ...] = (
    Published("facebook/VGGT-1B", VGGT, "1B", 1_256_537_516, CC_BY_NC),
    Published("facebook/VGGT-1B-Commercial", VGGT, "1B", 1_256_537_516, VGGT_LICENCE, gated=True),
    Published("depth-anything/DA3-SMALL", DEPTH_ANYTHING_3, "small", 34_299_463, APACHE),
    Published("depth-anything/DA3-BASE", DEPTH_ANYTHING_3, "base", 135_366_599, APACHE),
    Published("depth-anything/DA3-LARGE", DEPTH_ANYTHING_3, "large", 410_941_767, CC_BY_NC),
    Published("depth-anything/DA3-LARGE-1.1", DEPTH_ANYTHING_3, "large", 410_941_767, CC_BY_NC),
    Published("depth-anything/DA3-GIANT", DEPTH_ANYTHING_3, "giant", 1_355_674_125, CC_BY_NC),
    Published("depth-anything/DA3-GIANT-1.1", DEPTH_ANYTHING_3, "giant", 1_355_674_125, CC_BY_NC),
    Published("depth-anything/DA3METRIC-LARGE", DEPTH_ANYTHING_3, "metric-large", 334_171_394, APACHE),
    Published("depth-anything/DA3MONO-LARGE", DEPTH_ANYTHING_3, "mono-large", 334_171_394, APACHE),
    Published("depth-anything/DA3NESTED-GIANT-LARGE", DEPTH_ANYTHING_3, "nested", 1_689_845_519, CC_BY_NC),
    Published("depth-anything/DA3NESTED-GIANT-LARGE-1.1", DEPTH_ANYTHING_3, "nested", 1_689_845_519, CC_BY_NC),
)

#: The checkpoint of a model when none is named. VGGT-1B is the only one of VGGT that everybody can download; its
#: licence is said at every load. DA3-BASE is the largest any-view model that may be used for anything.
DEFAULT = {VGGT: "facebook/VGGT-1B", DEPTH_ANYTHING_3: "depth-anything/DA3-BASE"}
#: What to take instead where commercial use has to be allowed.
COMMERCIAL = {VGGT: "facebook/VGGT-1B-Commercial", DEPTH_ANYTHING_3: "depth-anything/DA3-BASE"}


def said(known: Published) -> str:
    """A checkpoint's licence in a sentence, and where commercial use is not allowed, a checkpoint where it is."""
    other = "" if known.licence.commercial else f"; {COMMERCIAL[known.model]} allows it"
    return f"weights {known.id}: {known.licence.sentence}{other}"


def published(hub_id: str) -> Published | None:
    """The published checkpoint of this hub id (case does not matter), or None for one that is not known."""
    return next((known for known in PUBLISHED if known.id.lower() == hub_id.lower()), None)
