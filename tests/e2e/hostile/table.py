"""All inputs for a stack that asks nobody for a key."""

from tests.e2e.hostile import archives, documents, forms, framing, headers, images, names, tensors
from tests.e2e.hostile.case import Case


def all_cases() -> list[Case]:
    """Make them anew."""
    return [
        *images.cases(),
        *forms.cases(),
        *documents.cases(),
        *archives.cases(),
        *tensors.cases(),
        *names.cases(),
        *framing.cases(),
        *headers.cases(),
    ]
