"""The node: the process that owns every task process of one machine."""
