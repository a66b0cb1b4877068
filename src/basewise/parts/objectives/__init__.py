"""Objectives: how a base is pretrained; one file each."""
