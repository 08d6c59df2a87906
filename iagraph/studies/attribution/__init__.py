"""Which particles matter: relevance by several methods, and their faithfulness."""
