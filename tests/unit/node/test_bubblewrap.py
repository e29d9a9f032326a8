"""The command line of bubblewrap: what is shown, how, and in which order."""

from pathlib import Path

from tidemill.node.isolation.sandbox.bubblewrap import View, sandboxed

DATA = Path("/srv/tidemill")
IMAGE = DATA / "images" / "abc"
WORK = Path("/dev/shm/tidemill-1/t-7-0-1")


def words(*read: Path, write: tuple[Path, ...] = (), own_proc: bool = True) -> list[str]:
    view = View(
        launcher=Path("/opt/launcher"),
        etc=DATA / "sandbox" / "1",
        app=IMAGE / "app",
        read=read,
        write=write,
        own_proc=own_proc,
        temporary_bytes=1 << 20,
    )
    return list(sandboxed(Path("/usr/bin/bwrap"), ("--ro-bind", "/usr", "/usr"), view))


def options(found: list[str], name: str) -> list[list[str]]:
    """What follows each option ``name``, two words at most."""
    return [found[at + 1 : at + 3] for at, word in enumerate(found) if word == name]


def test_what_is_to_read_cannot_be_written_and_may_be_missing() -> None:
    found = words(IMAGE, write=(WORK,))
    assert [str(IMAGE), str(IMAGE)] in options(found, "--ro-bind-try")
    assert options(found, "--bind") == [[str(WORK), str(WORK)]]


def test_folders_on_the_way_are_passed_through_and_not_listed() -> None:
    found = words(IMAGE, IMAGE.parent / "def")
    dirs = [found[at - 2 : at + 2] for at, word in enumerate(found) if word == "--dir"]
    assert dirs == [["--perms", "0111", "--dir", str(path)] for path in ("/srv", DATA, DATA / "images")]


def test_a_folder_to_read_in_one_to_write_is_shown_after_it_and_one_that_is_covered_not_again() -> None:
    found = words(DATA / "images", DATA / "images" / "abc", write=(DATA, DATA / "work"))
    assert options(found, "--bind") == [[str(DATA), str(DATA)]]
    assert options(found, "--ro-bind-try") == [[str(DATA / "images")] * 2]
    assert found.index("--bind") < found.index("--ro-bind-try")


def test_a_folder_to_write_in_one_to_read_is_shown_after_it() -> None:
    found = words(DATA, write=(DATA / "cache",))
    assert found.index("--ro-bind-try") < found.index("--bind")


def test_what_every_sandbox_has_is_not_shown_again_unless_it_is_to_be_written() -> None:
    found = words(Path("/usr/lib/python3"), Path("/proc"), Path("/bin"))
    assert not options(found, "--ro-bind-try")
    assert options(words(write=(Path("/usr/share/games"),)), "--bind") == [["/usr/share/games"] * 2]


def test_devices_are_devices() -> None:
    found = words(write=(Path("/dev/nvidia0"),))
    assert options(found, "--dev-bind") == [["/dev/nvidia0"] * 2]
    assert found.index("--dev") < found.index("--dev-bind") < found.index("--remount-ro")


def test_shown_paths_lie_on_the_folders_that_come_first_and_the_root_is_closed_last() -> None:
    found = words(Path("/tmp/read"), write=(WORK,))
    assert found.index("--tmpfs") < found.index("--bind")
    assert found[-7:] == ["--remount-ro", "/dev", "--remount-ro", "/", "--as-pid-1", "--", "/.init"]
    assert [found[at + 1] for at, word in enumerate(found) if word == "--tmpfs"] == ["/dev/shm", "/tmp"]
    assert [found[at + 1] for at, word in enumerate(found) if word == "--size"] == ["1048576", "1048576"]


def test_where_proc_cannot_be_mounted_the_machines_is_shown_to_read() -> None:
    assert options(words(), "--proc")
    assert not options(words(own_proc=False), "--proc")
    assert ["/proc", "/proc"] in options(words(own_proc=False), "--ro-bind")
