"""Workers that make every fit of a sweep together."""
