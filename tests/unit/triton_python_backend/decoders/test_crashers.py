from triton_python_backend.decoders import crashers as module
from triton_python_backend.decoders.crashers import Crashers


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_an_image_is_remembered_for_ten_minutes():
    clock = Clock()
    crashers = Crashers(clock=clock)
    assert not crashers.holds(b"bad")
    crashers.add(b"bad")
    assert crashers.holds(b"bad")
    assert not crashers.holds(b"fit")
    clock.now = 599.0
    assert crashers.holds(b"bad")
    clock.now = 600.0
    assert not crashers.holds(b"bad")
    assert not crashers._sizes


def test_of_too_many_the_oldest_is_forgotten(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 2)
    crashers = Crashers()
    for each in (b"a", b"bb", b"a", b"ccc"):
        crashers.add(each)
    assert [crashers.holds(each) for each in (b"a", b"bb", b"ccc")] == [True, False, True]
    assert crashers._sizes == {1, 3}


def test_other_sizes_cost_no_digest(monkeypatch):
    crashers = Crashers()
    crashers.add(b"bad")
    monkeypatch.setattr(module, "_digest", None)
    assert not crashers.holds(b"other")
