"""What a path or URI means, for everybody; the only room that knows object stores."""
