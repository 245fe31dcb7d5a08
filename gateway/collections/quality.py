"""Which faces are good enough to be remembered."""

from typing import Final, Literal

from gateway.types import Quality, QualityLimits

Gate = Literal["off", "standard", "strict"]

STANDARD: Final = QualityLimits()
"""What the API calls acceptable anywhere."""

STRICT: Final = QualityLimits(
    min_size=80.0,
    min_sharpness=0.3,
    min_brightness=0.2,
    max_brightness=0.85,
    max_yaw=25.0,
    max_pitch=20.0,
    max_roll=30.0,
)
"""What a passport photo easily meets: a gallery of these is searched with the fewest errors."""


def why_rejected(quality: Quality, gate: Gate) -> tuple[str, ...]:
    """Reasons against a face, empty for one that passes the gate."""
    if gate == "off":
        return ()
    return (STRICT if gate == "strict" else STANDARD).reasons(quality)
