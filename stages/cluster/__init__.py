"""Episodes on a Ray cluster; where they are played determines nothing of them."""
