"""Images: safe decoding, boxes, crops, feature networks."""
