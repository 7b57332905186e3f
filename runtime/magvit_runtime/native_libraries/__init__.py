"""Our compiled libraries: where they lie, and their C interfaces."""
