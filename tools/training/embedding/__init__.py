"""Training of `face_embedding` lite: a student learns the teacher's embedding of aligned crops.

`crops` aligns photos, `mixing` makes mixtures of them, `faces` splits them,
`tools.evaluation.views` degrades them; `train` fits `network` to the teacher with `loss`;
`evaluate` measures it.
"""
