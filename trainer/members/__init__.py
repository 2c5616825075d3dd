"""What an ensemble can be made of: networks, and heads on what a pretrained model hears."""
