"""What insightface finds in given canvases and photos.

Run by the interpreter that has insightface:

insightface_reference.py CANVASES.npz EMBEDDER.onnx ANSWERS.npz NAME=DETECTOR.onnx...

CANVASES holds uint8 RGB arrays [H,W,3]. For each of them and each detector, ANSWERS holds under
`detector/canvas/...`: boxes [N,4], landmarks [N,5,2], confidence [N], crops [N,112,112,3] uint8
RGB and embeddings [N,D] as the network gives them. Arrays named `photo…` are photos, which
insightface fits to 640 x 640 itself, as it does for its users; the others it takes as they are.
"""

import sys

import numpy as np
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from insightface.model_zoo.scrfd import SCRFD
from insightface.utils.face_align import norm_crop


def main(canvases_path: str, embedder_path: str, answers_path: str, *detectors: str) -> None:
    embedder = ArcFaceONNX(embedder_path)
    embedder.prepare(-1)
    answers = {}
    canvases = np.load(canvases_path)
    for named in detectors:
        name, path = named.split("=", 1)
        detector = SCRFD(path)
        detector.prepare(-1)
        for key in canvases.files:
            # insightface works on OpenCV's channel order
            canvas = np.ascontiguousarray(canvases[key][..., ::-1])
            height, width = canvas.shape[:2]
            size = (640, 640) if key.startswith("photo") else (width, height)
            rows, landmarks = detector.detect(canvas, input_size=size)
            crops = [norm_crop(canvas, points) for points in landmarks]
            answers[f"{name}/{key}/boxes"] = rows[:, :4]
            answers[f"{name}/{key}/confidence"] = rows[:, 4]
            answers[f"{name}/{key}/landmarks"] = landmarks
            if crops:
                answers[f"{name}/{key}/crops"] = np.stack(crops)[..., ::-1]
                answers[f"{name}/{key}/embeddings"] = embedder.get_feat(crops)
    np.savez(answers_path, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
