"""The pretrained model, obtained and checked."""
