"""Training of the detector's second network, which corrects the landmarks of each face.

`command` runs everything: `dataset` runs detector and teacher on composed scenes and keeps the
faces that both detect, cropped by `crops`; `train` fits `network` to them with `loss`; `export`
adds it to the detector's file.
"""
