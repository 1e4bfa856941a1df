"""What runs beside Ray's tasks: hand shards out, commit what comes back."""
