"""Training of the detector's second network, which corrects the landmarks of each face.

`command` runs everything: `dataset` shows composed scenes to detector and teacher and keeps the
faces that both find, cut out by `crops`; `train` fits `network` to them, by `loss`; `export` joins
it to the detector's file.
"""
