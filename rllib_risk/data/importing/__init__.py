"""Reads logs of a team from files of any layout, as a map describes them.

``sources`` finds the files; ``csv_files``, ``json_lines`` and ``array_files`` read them
in blocks of rows (``tables``). ``cells`` makes numbers of cells. ``map_reader`` reads
the map (``mapping``), ``columns`` finds its columns in a file. ``steps`` makes joint
steps of rows, ``assembly`` makes episodes of steps, ``importer`` writes the dataset.
``inference`` writes a first map.
"""
