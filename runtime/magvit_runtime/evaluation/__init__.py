"""What a tokenizer keeps of what it encodes: pictures after their way through tokens, and codes."""
