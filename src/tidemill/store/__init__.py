"""What we remember. The only place that knows SQL: one file per noun, functions of a connection."""
