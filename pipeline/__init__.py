"""Offline stages: posts to phrases, boxes and region features."""
