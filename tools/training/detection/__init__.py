"""Training of `face_detection` lite: composed scenes in, an averaged network out.

`command` is the whole run: `data` reads and labels photos and scenes, `compose` makes pictures of
them (with `augment`, `mosaic` and `doodles`), `teacher` says what `train` shall learn with `net`
and `loss` from `batches` of them, `evaluate` measures it. `shorten` makes a trained one faster.
"""
