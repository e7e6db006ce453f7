"""Matrix products that pipeline and model share."""
