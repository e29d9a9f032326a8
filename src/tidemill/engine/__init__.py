"""Where nodes are. One file per engine; ``protocol.py`` is what all of them implement."""
