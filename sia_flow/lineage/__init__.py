"""The records of what happened, and the store that keeps them."""
