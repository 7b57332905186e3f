"""Our models inside engines that serve them to many: each an existing one, none of ours."""
