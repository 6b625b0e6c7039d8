"""What engines and training agree on: messages as tokens, the number format."""
