import gc

from tidemill import server


def test_what_stays_is_not_walked_by_garbage_collections() -> None:
    assert gc.get_freeze_count() == 0
    try:
        server._set_aside_what_stays()
        assert gc.get_freeze_count() > 50_000
        assert len(gc.get_objects()) < 5_000
    finally:
        gc.unfreeze()
