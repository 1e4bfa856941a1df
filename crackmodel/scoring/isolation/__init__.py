"""Images that kill their worker or hang in it: find them, and score all others."""
