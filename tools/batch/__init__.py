"""Bulk commands: many photos in, one line for each out.

`inputs` reads photos, `service` or `local` answers them, `journal` and `output` keep the answers,
`pictures` and `sheet` draw them; `run` connects these.
"""
