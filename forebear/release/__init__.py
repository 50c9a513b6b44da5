"""Making a release: what the owner signs, and the folder that carries it to others."""
