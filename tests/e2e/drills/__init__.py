"""Drills: a real server and its node under what machines do to them. `make drills` runs them at length."""
