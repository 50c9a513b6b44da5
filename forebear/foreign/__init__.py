"""Foreign repositories: has somebody else's stages recorded, and undoes that."""
