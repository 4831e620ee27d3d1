"""How the practice model 豆だぬき (`mame`) is made: texts, tokenizer, training, files."""
