"""Training of `face_embedding` lite: aligned crops in, a student of the teacher's embedding out.

`crops` aligns photos, `mixing` makes more of them, `faces` splits them, `views` degrades them;
`train` teaches the network in `student`, `evaluate` measures it.
"""
