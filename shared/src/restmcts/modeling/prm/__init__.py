"""Process reward models of others, each scored as its authors meant it."""
