"""Users of their own: no two attempts at once are the same one, and none belongs to somebody else."""

import errno
import os
import pwd
import resource
from contextlib import closing
from pathlib import Path

import pytest

from tests.node.rig import Reader, Rig, until
from tidemill.node.isolation.uids import RANGE_COUNT, UidPool, lent_ranges, open_pool, open_range, reserved
from tidemill.node.isolation.users import Users

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to give to tasks")


def test_a_number_is_given_once_and_again_as_late_as_possible() -> None:
    pool = UidPool([7, 8, 9])
    assert [pool.take(), pool.take()] == [7, 8]
    pool.give_back(7)
    assert [pool.take(), pool.take()] == [9, 7]
    with pytest.raises(OSError, match="in use") as none:
        pool.take()
    assert none.value.errno == errno.EAGAIN


def test_a_number_that_cannot_be_looked_after_now_is_given_back_later() -> None:
    pool = UidPool(range(4_000_000_000, 4_000_000_003))
    users = Users(pool)
    first, second = users.seat(build=False), users.seat(build=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        users.leave(first, empty=True)  # /dev/shm cannot be opened
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(pool) == 0
    users.leave(second, empty=True)
    assert {pool.take(), pool.take()} == {first.uid, second.uid}


def test_numbers_of_accounts_are_left_out() -> None:
    # nobody, in most places
    taken = max(entry.pw_uid for entry in pwd.getpwall())
    with closing(open_pool(taken - 1, 3)) as pool:
        assert taken not in {pool.take() for _ in range(len(pool))}


def test_numbers_of_rootless_containers_are_known(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("ann:100000:65536\n# nothing\nbob:x:1\n1001:300000:10\n")
    assert lent_ranges(tmp_path / "subuid") == [range(100_000, 165_536), range(300_000, 300_010)]
    assert lent_ranges(tmp_path / "none") == []


def test_two_nodes_of_a_machine_have_different_users() -> None:
    first = 3_000_000_000
    with closing(open_pool(first, 3)) as one, closing(open_pool(first, 3)) as other:
        assert [one.take(), one.take(), other.take()] == [first, first + 1, first + 3]
    with closing(open_pool(first, 3)) as next_one:
        assert next_one.take() == first


def test_two_nodes_of_a_machine_have_different_ranges_and_none_has_an_account() -> None:
    first = 3_100_000_000
    none = range(0)
    with closing(open_range(first, none)) as one, closing(open_range(first, none)) as other:
        assert [one.first, other.first] == [first, first + RANGE_COUNT]
        assert one.all == range(first, first + RANGE_COUNT)
    # root is there, and more
    with closing(open_range(1, none)) as without:
        assert not any(entry.pw_uid in without.all for entry in pwd.getpwall())
        assert not any(lent.start in without.all or without.first in lent for lent in lent_ranges())


def test_a_range_has_no_number_that_a_task_may_have() -> None:
    tasks = reserved(3_200_000_000, 4096)
    assert tasks.stop - tasks.start == 64 * 4096
    for first in (tasks.start, tasks.stop - 1, tasks.start - RANGE_COUNT + 1):
        with closing(open_range(first, tasks)) as found:
            assert found.all.stop <= tasks.start or found.first >= tasks.stop
    with pytest.raises(OSError, match="no 65536 numbers of users from 3300000000 on"):
        open_range(3_300_000_000, range(3_300_000_000, 3_400_000_000))


@as_root
def test_each_task_is_a_user_of_its_own_and_its_directory_is_that_users(rig: Rig) -> None:
    engine = rig.engine()
    script = f"stat -c '%u %a' $TIDEMILL_WORK_DIR $TIDEMILL_TASK_FILE > {rig.root}/$TASK_INDEX; "
    script += f"id -u >> {rig.root}/$TASK_INDEX; echo '1' > $TIDEMILL_RESULT_FILE; mv {rig.root}/$TASK_INDEX "
    script += f"{rig.root}/done-$TASK_INDEX; while [ ! -e {rig.root}/go ]; do sleep 0.02; done"
    leases = [rig.lease(rig.shell(script), index) for index in range(3)]
    rig.launch(engine, *leases)
    done = [rig.root / f"done-{index}" for index in range(3)]
    until(lambda: all(path.exists() for path in done))
    (rig.root / "go").touch()
    users = []
    for path in done:
        work, task, uid = path.read_text().splitlines()
        assert (work, task) == (f"{uid} 700", f"{uid} 600")
        users.append(int(uid))
    assert len(set(users)) == 3
    assert all(uid >= rig.settings.task_uid_first for uid in users)
    reader = Reader(engine)
    assert [reader.outcome(lease.attempt).result for lease in leases] == ["1\n"] * 3


@as_root
def test_a_user_is_given_again_when_nothing_of_it_is_left(rig: Rig) -> None:
    engine = rig.engine(task_uid_count=2)
    image = rig.shell("echo x > /dev/shm/tidemill-$(id -u); mkdir -p $TMPDIR/deep/er; id -u > $TIDEMILL_RESULT_FILE")
    outcomes = []
    for index in range(3):
        lease = rig.lease(image, index)
        rig.launch(engine, lease)
        outcomes.append(Reader(engine).outcome(lease.attempt))
    (uid,) = {outcome.result for outcome in outcomes}
    assert uid is not None
    # two at once wait for each other rather than share it
    together = [rig.lease(image, index) for index in (10, 11)]
    rig.launch(engine, *together)
    reader = Reader(engine)
    assert {reader.outcome(lease.attempt).result for lease in together} == {uid}
    until(lambda: not Path(f"/dev/shm/tidemill-{uid.strip()}").exists())


@as_root
def test_without_users_tasks_run_as_the_node(rig: Rig) -> None:
    engine = rig.engine(task_uid_count=0)
    outcome = rig.run(engine, rig.lease(rig.shell("id -u > $TIDEMILL_RESULT_FILE")))
    assert outcome.result == "0\n"
    (node,) = engine.nodes()
    assert "own_uid" not in node.capabilities
