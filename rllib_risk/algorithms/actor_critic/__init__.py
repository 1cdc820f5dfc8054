"""What COMA and DOP share, and what MAPPO and IPPO share."""
