"""What a language model is to the rest, and the models there are."""
