"""Training of `face_detection` lite on composed scenes.

`command` runs everything: `dataset` reads and labels photos and scenes; `compose` makes training
pictures from them (with `augment`, `mosaic` and `distractors`); `batches` collects them with the
targets of `teacher`; `train` fits `network` with `loss`; `evaluate` measures the result.
`prune_depth` makes a trained network faster.
"""
