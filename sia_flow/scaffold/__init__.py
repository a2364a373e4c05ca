"""What a scaffold is: its contract, its tunable constants, and edits of its source that stay readable."""
