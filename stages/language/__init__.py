"""What hints are worded in, and how pages are read: what the hint writer shares with the makers of demonstrations."""
