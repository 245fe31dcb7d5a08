"""Training of `face_embedding` lite: aligned crops in, a student of the teacher's embedding out.

`crops` aligns photos, `mixing` makes more of them, `faces` splits them, `tools.evaluation.views`
degrades them; `train` fits `network` to the teacher, by `loss`; `evaluate` measures it.
"""
