"""Training of `face_detection` lite: composed scenes in, an averaged network out.

`command` runs everything: `dataset` reads and labels photos and scenes, `compose` makes pictures
of them (with `augment`, `mosaic` and `distractors`), `teacher` gives the targets that `train` fits
`network` to, by `loss`, in the `batches` of these pictures; `evaluate` measures the result.
`prune_depth` makes a trained network faster.
"""
