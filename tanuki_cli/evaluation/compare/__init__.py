"""What a model's other forms cost: the same ids through each, figures beside each other."""
