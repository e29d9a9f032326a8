"""Migrations, forward only: one file per change of the tables."""
