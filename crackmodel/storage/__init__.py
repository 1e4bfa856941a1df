"""What a path or URI means; only this package knows object stores."""
