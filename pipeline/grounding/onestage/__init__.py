"""The one-stage grounder of Yang et al. (ICCV 2019): network, text encoders, released checkpoints, grounder."""
