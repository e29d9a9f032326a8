"""From an image of a registry to one of ours: fetched, its layers laid over each other, packed."""
