"""``python -m tidemill.node SETTINGS READY_FD``: how a local engine starts its node.

SETTINGS is the JSON of NodeSettings. One line is written to READY_FD: ``ready``, or why there will be no node.
"""

import os
import sys

from tidemill.node.process import run
from tidemill.node.settings import NodeSettings


def main(settings_json: str, ready_fd: int) -> int:
    # nothing that a server has open by accident may stay open as long as this node lives
    os.closerange(3, ready_fd)
    os.closerange(ready_fd + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_inheritable(ready_fd, False)

    def report(problem: str) -> None:
        os.write(ready_fd, f"{problem or 'ready'}\n".encode())
        os.close(ready_fd)

    return run(NodeSettings.from_json(settings_json), report, company=(os.getppid(),))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
