"""Pretrained networks that metrics and trainings look through."""
