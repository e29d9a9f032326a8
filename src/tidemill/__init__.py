"""Tidemill: self-hosted batch jobs. Start reading at ARCHITECTURE.md, then ``model/``."""

__version__ = "0.1.0"
