"""The same prompt through several strategies: run, shown, exported, replayed."""
