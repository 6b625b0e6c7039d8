"""One LoRA trainer, its loss, and how several processes train together."""
