"""Tests of pipeline.phrases."""
