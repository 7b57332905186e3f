"""Files of what was computed: tokens and predictions."""
