"""Conservative penalties on the values of actions outside the dataset."""
