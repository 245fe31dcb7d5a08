"""Views without any degradation."""

from tools.evaluation.views import Recipe

CLEAN = Recipe(
    flip=0,
    rotation=0,
    scale=0,
    shift=0,
    shrink=0,
    blur=0,
    jpeg=0,
    colour=0,
    grey=0,
    cover=0,
    backdrop=0,
)
