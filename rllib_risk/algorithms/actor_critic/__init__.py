"""What COMA and DOP share."""
