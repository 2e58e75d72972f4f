"""Jobs over a storage on which several things go wrong at once, at random."""
