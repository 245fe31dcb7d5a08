"""Training of the built-in weights: distillation on CPUs, resumable, seeded, measured.

One command per network, `python -m tools.training --help`:

- `crops`      aligns the faces of FairFace, UTKFace and MEBeauty, computes the teacher's embeddings
- `embedding`  a small ArcFace student, 128-d
- `scoring`    a regression head on an embedding, from MEBeauty's ratings
- `detection`  a small SCRFD-like student
- `ship`       makes trained networks the built-in weights

Training needs the extra `train`, with PyTorch.
Guide: docs/training.md
"""
