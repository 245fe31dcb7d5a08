"""Run insightface in one process, line by line, with an interpreter that has insightface.

    python benchmarks/insightface_worker.py DETECTOR.onnx EMBEDDER.onnx THREADS PHOTO

Each line on standard input is a number of photos to analyse. Each answer is a JSON line with the
seconds of each photo, from encoded bytes to embeddings, and the boxes [N,4] and embeddings [N,D] of
the last one.
"""

import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from insightface.app.common import Face
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.scrfd import SCRFD


def session(path: str, threads: int) -> onnxruntime.InferenceSession:
    """Load a network on the CPU with `threads` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Answer lines until standard input ends."""
    detector_file, embedder_file, threads, photo = sys.argv[1:]
    cv2.setNumThreads(int(threads))
    detector = SCRFD(detector_file, session=session(detector_file, int(threads)))
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    embedder = ArcFaceONNX(embedder_file, session=session(embedder_file, int(threads)))
    data = np.frombuffer(Path(photo).read_bytes(), np.uint8)
    for line in sys.stdin:
        seconds, found, embeddings = [], np.zeros((0, 4)), []
        for _ in range(int(line)):
            started = time.perf_counter()
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
            boxes, landmarks = detector.detect(image)
            embeddings = [
                embedder.get(image, Face(bbox=box[:4], kps=points, det_score=box[4])).tolist()
                for box, points in zip(boxes, landmarks, strict=True)
            ]
            seconds.append(time.perf_counter() - started)
            found = boxes[:, :4]
        answer = {"seconds": seconds, "boxes": found.tolist(), "embeddings": embeddings}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
