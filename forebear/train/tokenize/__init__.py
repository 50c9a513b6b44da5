"""From corpus to packed, memory-mapped training sequences, with the tokenizer measured."""
