"""From any plain text to a checkpoint: corpus, vocabulary, training, resuming."""
