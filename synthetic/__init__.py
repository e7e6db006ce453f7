"""Parts that ship: drawn scenes and posts, small trained models."""
