"""Requests that users aim and the server sends: where they may go, and how they are sent."""
