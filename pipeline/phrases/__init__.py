"""Noun phrases of posts: a parser interface, a file per parser, and the normalized words that parsers read."""
