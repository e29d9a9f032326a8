"""Every error a caller can meet has a status, and the statuses name no class that is gone."""

from tidemill.api.problems import STATUS
from tidemill.model import errors


def test_every_error_class_has_a_status_of_its_own_or_its_parents() -> None:
    named = [each for each in vars(errors).values() if isinstance(each, type)]
    classes = [each for each in named if each is not errors.TidemillError]
    bugs = {errors.IllegalMove, errors.StaleTerm}  # never a caller's: they are a 500 with an id
    without = [each for each in classes if not set(each.__mro__) & set(STATUS) and each not in bugs]
    assert without == []
    assert all(400 <= status < 600 for status in STATUS.values())
