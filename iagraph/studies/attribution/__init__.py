"""Which particles decide: relevance by several methods, and which to believe."""
