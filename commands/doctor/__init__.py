"""`fmit doctor`: a file per thing that is checked."""
