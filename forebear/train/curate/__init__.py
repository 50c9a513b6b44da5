"""From declared sources to a ledgered corpus, a golden set and instruction rows."""
