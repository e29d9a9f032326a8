"""Where bytes lie: source archives, images, log files."""

from tidemill.blobs.store import Blobs

__all__ = ["Blobs"]
