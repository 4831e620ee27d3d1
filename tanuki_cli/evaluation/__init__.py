"""Running models on texts and counting. Knows no screen: the commands print."""
