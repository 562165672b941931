"""Text as the terminal needs it: spelling, words and ids, display form."""
