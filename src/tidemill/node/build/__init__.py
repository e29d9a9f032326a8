"""A build: from the uploaded archive of a folder to an image. Run as a process: ``python -m tidemill.node.build``."""


class BuildError(ValueError):
    """The folder cannot be made an image as it is; the text tells its owner why, and what would be right."""
