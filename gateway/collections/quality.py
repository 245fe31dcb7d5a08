"""Which faces are good enough to be enrolled."""

from typing import Final, Literal

from gateway.types import Quality, QualityLimits

Gate = Literal["off", "standard", "strict"]

STANDARD: Final = QualityLimits()
"""Limits of what every route calls acceptable."""

STRICT: Final = QualityLimits(
    min_size=80.0,
    min_sharpness=0.3,
    min_brightness=0.2,
    max_brightness=0.85,
    max_yaw=25.0,
    max_pitch=20.0,
    max_roll=30.0,
)
"""Limits that passport photos meet easily, for a gallery with the fewest search errors."""


def why_rejected(quality: Quality, gate: Gate) -> tuple[str, ...]:
    """Return the reasons against a face; empty if it passes the gate."""
    if gate == "off":
        return ()
    return (STRICT if gate == "strict" else STANDARD).reasons(quality)
