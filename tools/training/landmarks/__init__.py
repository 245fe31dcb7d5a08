"""Training of the detector's second network, which corrects each face's landmarks.

`command` is the whole run: `examples` shows composed scenes to detector and teacher and keeps the
faces that both see, cut out as `crops` says; `train` teaches `net` with them; `export` joins it to
the detector's file.
"""
