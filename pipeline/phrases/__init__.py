"""Noun phrases of posts: a parser interface, a file per parser, and the view of a post that parsers see."""
