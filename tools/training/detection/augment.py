"""Augmentation of pictures: colour, blur, JPEG, frames, cut-outs, harsh light, covered faces."""

import cv2
import numpy as np

from tools.training.detection.scrfd import ByteArray, FloatArray

COVERED = ((0.5, 0.1), (0.5, 0.4), (0.5, 0.85), (0.1, 0.5), (0.9, 0.5))
"""Regions of a face to cover, in shares of its box: brow, eyes, mouth, either side."""


def colour_jitter(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Change gain, offset and gamma per image, slightly per channel; sometimes make it grey."""
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
    """Apply blur, low resolution, noise or JPEG, each by chance; the shape stays."""
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


def harshly_lit(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Light the picture from one side, often with coloured light."""
    height, width = image.shape[:2]
    light = rng.uniform(0.25, 1.5, (2, 2, 1)).astype(np.float32)
    if rng.random() < 0.6:
        light = light * np.exp(rng.normal(0, 0.35, 3)).astype(np.float32)
    light = np.broadcast_to(light, (2, 2, 3))
    field = cv2.resize(np.ascontiguousarray(light), (width, height))
    return np.clip(image * field, 0, 255).astype(np.uint8)


def covered(image: ByteArray, boxes: FloatArray, rng: np.random.Generator) -> ByteArray:
    """Cover a part of some faces, ``[N,4]`` in pixels: brow, eyes, mouth or a side of them.

    The cover has one colour or is another part of the picture.
    """
    image = image.copy()
    size_y, size_x = image.shape[:2]
    for box in boxes:
        if rng.random() < 0.5:
            continue
        extent = box[2:] - box[:2]
        middle = box[:2] + extent * COVERED[int(rng.integers(len(COVERED)))]
        half = extent * rng.uniform((0.2, 0.1), (0.6, 0.25))
        x1, y1 = np.maximum(middle - half, 0).astype(int)
        x2, y2 = np.minimum(middle + half, [size_x, size_y]).astype(int)
        if x2 - x1 < 2 or y2 - y1 < 2:
            continue
        width, height = int(x2 - x1), int(y2 - y1)
        cover = np.empty((height, width, 3), np.uint8)
        cover[:] = rng.integers(0, 256, 3)
        if rng.random() < 0.5 and width < size_x and height < size_y:
            left, top = rng.integers(0, size_x - width), rng.integers(0, size_y - height)
            cover = image[top : top + height, left : left + width].copy()
        mask = np.ones((height, width), np.float32)
        if rng.random() < 0.6:
            mask[:] = 0
            ellipse = ((width / 2, height / 2), (float(width), float(height)), 0.0)
            cv2.ellipse(mask, ellipse, (1.0,), -1)
        image[y1:y2, x1:x2] = cv2.blendLinear(cover, image[y1:y2, x1:x2].copy(), mask, 1 - mask)
    return image


def resized(image: ByteArray, width: int, height: int) -> ByteArray:
    """Scale by area; the bilinear warp alone would alias where it shrinks."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def framed(image: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Shrink the picture inside a black frame, as the letterbox and the padding do."""
    size = image.shape[0]
    width, height = (int(size * rng.uniform(0.4, 1.0)) for _ in range(2))
    left, top = (int(rng.integers(0, size - side + 1)) for side in (width, height))
    if rng.random() < 0.4:
        left, top = 0, 0
    canvas = np.zeros_like(image)
    canvas[top : top + height, left : left + width] = resized(image, width, height)
    return canvas


def paste_mask(rng: np.random.Generator, shape: tuple[int, int], box: FloatArray) -> FloatArray:
    """Choose the pasted region of a photo, ``[h,w]`` 0-1: all, a soft rectangle, an ellipse."""
    height, width = shape
    kind = rng.random()
    if kind < 0.35:
        return np.ones((height, width), np.float32)
    mask = np.zeros((height, width), np.float32)
    x1, y1, x2, y2 = box
    if kind < 0.6:
        inset = rng.uniform(0, 0.12)
        dx, dy = int(width * inset), int(height * inset)
        mask[dy : height - dy, dx : width - dx] = 1
    else:
        grow = rng.uniform(1.05, 1.7)
        centre = (float(x1 + x2) / 2, float(y1 + y2) / 2 - float(y2 - y1) * 0.06 * grow)
        axes = (float(x2 - x1) * grow * 1.05, float(y2 - y1) * grow)
        cv2.ellipse(mask, (centre, axes, 0.0), (1.0,), -1)
    feather = int(max(x2 - x1, 2) * rng.uniform(0, 0.25)) // 2 * 2 + 1
    return cv2.blur(mask, (feather, feather)) if feather > 1 else mask  # type: ignore[return-value]
