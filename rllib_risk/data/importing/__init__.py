"""Imports logs of a team from files of any layout, which a map describes.

``sources`` finds the files. ``csv_files``, ``json_lines`` and ``array_files`` read them
in blocks of rows (``tables``). ``cells`` converts cells to numbers. ``map_reader``
reads the map (``mapping``), and ``columns`` finds its columns in a file. ``steps``
builds joint steps from rows, ``assembly`` builds episodes from steps, and ``importer``
writes the dataset. ``inference`` writes a first map.
"""
