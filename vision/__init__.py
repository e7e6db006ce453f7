"""Pictures: safe decoding, boxes, crops, feature networks."""
