"""Statistics on numpy arrays alone: intervals, paired tests, sequential evidence, selection, calibration, duplicates."""
