"""What goes into a build and what comes out of it, between the node's folders and the private one that it sees."""

import os
import shutil
import stat
from pathlib import Path
from typing import Final

SOURCE_FILE: Final = "source.zip"
IMAGE_FILE: Final = "image.tar.gz"
CREDENTIALS_FILE: Final = "credentials"


def give_source(archive: Path, work: Path) -> None:
    """Put the source archive into ``work``, readable by whoever the build runs as, but not theirs to change.

    A link where both lie on one file system, so that it costs nothing. Raises OSError.
    """
    given = work / SOURCE_FILE
    try:
        os.link(archive, given, follow_symlinks=False)
        if given.stat().st_mode & stat.S_IROTH:
            return
        given.unlink()
    except OSError:
        # another file system, or one without links
        given.unlink(missing_ok=True)
    shutil.copyfile(archive, given)
    given.chmod(0o644)


def give_credentials(credentials: str, work: Path) -> Path:
    """Put a registry's ``USER:PASSWORD`` into ``work``, for whoever owns the file alone; returns its path.

    Who pulls removes it before anything else. Raises OSError.
    """
    given = work / CREDENTIALS_FILE
    with open(os.open(given, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(credentials)
    return given


def take_image(work: Path, target: Path) -> None:
    """Move the image that a build has left in ``work`` to ``target``, and make it the node's.

    Nothing of the build runs any more. Raises OSError, also when what it left is no file of its own.
    """
    made = work / IMAGE_FILE
    found = made.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        # a link would make any file the image, or leave the image in other hands
        raise OSError(f"{IMAGE_FILE} is no file of the build's own")
    os.chown(made, os.geteuid(), os.getegid(), follow_symlinks=False)
    made.chmod(0o644)
    shutil.move(made, target)
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_tree(folder: Path, uid: int) -> None:
    """Make ``folder`` and all below it ``uid``'s, if it is not yet. Raises OSError."""
    if folder.lstat().st_uid == uid:
        return
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(path, name), uid, uid, follow_symlinks=False)
    # last: as long as it is not, the next start tries again
    os.chown(folder, uid, uid)
