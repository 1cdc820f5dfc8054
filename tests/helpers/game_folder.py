"""A folder that looks like an installation of StarCraft II."""

from pathlib import Path


def install_game(folder: Path, *maps: str) -> None:
    binary = folder / "Versions" / "Base75689" / "SC2_x64"
    binary.parent.mkdir(parents=True)
    binary.touch()
    (folder / "Maps" / "SMAC_Maps").mkdir(parents=True)
    for name in maps:
        (folder / "Maps" / "SMAC_Maps" / f"{name}.SC2Map").touch()
