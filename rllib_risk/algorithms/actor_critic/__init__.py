"""Code that COMA and DOP share, and code that MAPPO and IPPO share."""
