"""What cameras and codecs do to a picture: colour, grey, blur, noise, low resolution, JPEG."""

import cv2
import numpy as np

from tools.training.detection_scrfd import ByteArray


def colour_jitter(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Gain, offset and a gamma per image, a little per channel; sometimes grey."""
    if rng.random() < 0.12:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)  # type: ignore[assignment]
    if rng.random() < 0.25:
        return image
    levels = np.arange(256, dtype=np.float32) / 255
    gamma = np.exp(rng.normal(0, 0.18))
    gain = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3))
    offset = rng.normal(0, 0.06)
    curves = (levels[:, None] ** gamma - 0.5) * gain + 0.5 + offset
    table = (np.clip(curves, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(image), table.reshape(1, 256, 3))  # type: ignore[return-value]


def degrade(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Blur, low resolution, noise or JPEG, each now and then; the shape stays."""
    height, width = image.shape[:2]
    kind = rng.random()
    if kind < 0.06:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4))  # type: ignore[assignment]
    elif kind < 0.08:
        length = int(rng.integers(2, 6))
        kernel = (length, 1) if rng.random() < 0.5 else (1, length)
        image = cv2.blur(image, kernel)  # type: ignore[assignment]
    elif kind < 0.13:
        share = rng.uniform(0.45, 0.9)
        small = cv2.resize(
            image, (int(width * share), int(height * share)), interpolation=cv2.INTER_AREA
        )
        image = cv2.resize(small, (width, height))  # type: ignore[assignment]
    if rng.random() < 0.08:
        noise = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(1 << 30)))
        cv2.randn(noise, np.zeros(3), np.full(3, rng.uniform(2, 14)))
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        done, data = cv2.imencode(".jpg", image, quality)
        if done:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)  # type: ignore[assignment]
    if rng.random() < 0.15:
        image = colour_jitter(image, rng)
    return image
