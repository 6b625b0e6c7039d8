"""How weights are obtained and changed: the pretrained model, demonstrations, lessons, and one LoRA trainer."""
