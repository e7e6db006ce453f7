"""Records, labels, configuration and errors: what every other package builds on."""
