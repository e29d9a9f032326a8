"""Builds the launcher into wheels, which are then for one platform; without a C compiler the wheel has none."""

import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGED = "tidemill/node/launcher/tidemill-launcher"


class LauncherHook(BuildHookInterface[Any]):
    """An editable install gets its launcher from scripts/setup.sh instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        source = Path(self.root) / "src"
        sys.path.insert(0, str(source))
        from tidemill.node.launcher import build  # noqa: PLC0415 - importable only once its folder is known

        self.folder = tempfile.TemporaryDirectory()
        target = Path(self.folder.name) / "tidemill-launcher"
        problem = build.build(source / "tidemill/node/launcher", target)
        if problem:
            self.app.display_warning(f"the wheel has no launcher: {problem}")
            return
        build_data["force_include"][str(target)] = PACKAGED
        build_data["pure_python"] = False
        # any Python 3, this platform: the launcher is a program of its own, no extension module
        build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
