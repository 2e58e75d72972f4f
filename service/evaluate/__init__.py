"""Features judged on tasks: labels, folds that keep groups apart, probes, scores with intervals."""
