"""Reads logs of a team from files of any layout, as a map describes them.

``sources`` finds the files, ``tables`` and the modules of the formats read them in
pieces, ``cells`` turns cells into numbers, ``mapping`` reads the map, ``steps`` makes
joint steps of rows, ``assembly`` makes episodes of steps, ``inference`` writes a first
map.
"""
