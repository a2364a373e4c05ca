"""The two agents as language models: they read evidence by tools, and write scaffolds and edits by schema."""
