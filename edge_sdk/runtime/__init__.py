"""The unattended loop: cameras in, verdicts out."""
