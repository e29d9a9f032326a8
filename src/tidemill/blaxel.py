"""``import tidemill.blaxel``: the official Python SDK talks to the server that BL_API_URL and BL_RUN_URL name.

The SDK itself reads no address (contract 1.3, 1.4). This module does not import it, which costs more than a second: it
waits until somebody does, and sets what the SDK knows of the hosted service then. What it sets are properties of the
SDK's class of settings, so ``blaxel.autoload()`` sets the same again. Besides the addresses that is the SDK's reporting
of errors and of installations to its makers, which is turned off: before 0.3 it is on by default.

The builds of Python images copy this very file into the image (node/build/official_sdk.py). So it imports the standard
library alone, and little of it: ``typing`` would cost every start of the image's interpreter ten milliseconds.
"""

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "blaxel"
_SETTINGS = "blaxel.core.common.settings"
_CLIENT = "blaxel.core.client.client"
_REPORTS = "blaxel.core.common.sentry"


def _addresses() -> tuple[str, str]:
    """Of the API and of runs. Raises RuntimeError without BL_API_URL: the SDK would send its key to another service."""
    api = os.environ.get("BL_API_URL", "").rstrip("/")  # noqa: TID251 - read where the SDK runs, not in the server
    if not api:
        raise RuntimeError("tidemill.blaxel: BL_API_URL is not set; it must be like http://HOST:8700/v0")
    run = os.environ.get("BL_RUN_URL", "").rstrip("/")  # noqa: TID251 - as above
    return api, run or api.removesuffix("/v0")


def _point_settings(module: ModuleType) -> None:
    """Before the SDK's own ``autoload`` reads them, so that it starts no reporting."""
    api, run = _addresses()
    settings = module.settings
    for name, value in {"base_url": api, "run_url": run, "tracking": False}.items():
        setattr(type(settings), name, property(_Constant(value)))
    if settings.auth is not None:  # 0.2 has none without a credential
        settings.auth.base_url = api  # where tokens come from; taken from the built-in address when it was made


def _point_client(_: ModuleType) -> None:
    """The client that all calls share, and all again for an SDK that was there before us.

    Raises RuntimeError where the SDK has no such parts: better no SDK than one that talks to the hosted service.
    """
    try:
        _point_settings(sys.modules[_SETTINGS])
        sys.modules[_CLIENT].client.with_base_url(_addresses()[0])
    except (KeyError, AttributeError) as error:
        raise RuntimeError(f"tidemill.blaxel: this version of blaxel cannot be pointed elsewhere: {error}") from error
    if reports := sys.modules.get(_REPORTS):
        vars(reports)["_sentry_initialized"] = False  # a report that was begun before we came is not sent


class _Constant:
    """A getter that always says ``value``."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __call__(self, _: object) -> object:
        return self._value


_AFTER = {_SETTINGS: _point_settings, _PACKAGE: _point_client}


class _Loader:
    """Loads as the loader of ``spec`` does, then does what comes after; it leaves no trace in the module."""

    def __init__(self, spec: ModuleSpec) -> None:
        assert spec.loader is not None
        self._spec, self._inner = spec, spec.loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # resources and sources of the package are asked of its loader
        self._spec.loader = module.__loader__ = self._inner
        self._inner.exec_module(module)
        _AFTER[module.__name__](module)


class _Finder:
    """The first on ``sys.meta_path``: lets the others find, and wraps the loader of the two modules that matter."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _AFTER:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target)  # type: ignore[arg-type]  # its type is one of typing's
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec)  # type: ignore[assignment]  # has the two methods that imports call
                return spec
        return None


if _PACKAGE in sys.modules:
    _point_client(sys.modules[_PACKAGE])
else:
    sys.meta_path.insert(0, _Finder())
