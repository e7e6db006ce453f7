"""What every room speaks: records, labels, configuration and errors."""
