"""The laws that every kind of a joint passes, as functions that tests call; for kinds outside this package too."""
