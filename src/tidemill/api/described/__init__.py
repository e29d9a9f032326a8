"""The description of the API that /v0/openapi.json serves."""
