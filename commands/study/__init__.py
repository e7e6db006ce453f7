"""`fmit tables`: the study behind the paper's tables, its steps and its settings."""
