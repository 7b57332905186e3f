"""Our compiled libraries: their locations, and their C interfaces."""
