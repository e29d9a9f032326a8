"""Level ``sandbox``: a command has a root, process numbers and temporary files of its own, made by bubblewrap."""
