"""The command line's parts: each command parses its options and calls one function; imports are inside bodies."""
