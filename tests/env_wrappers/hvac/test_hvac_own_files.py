"""A user's own buildings and weather in the env `hvac`."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from pettingzoo.test import parallel_api_test

from rllib_risk.env_wrappers import EnvConfigError
from rllib_risk.env_wrappers.checking.check_env import check_env
from rllib_risk.env_wrappers.hvac.batched import BatchedHVAC
from rllib_risk.env_wrappers.hvac.building_file import read_zone_table
from rllib_risk.env_wrappers.hvac.data import load_building, load_weather
from rllib_risk.env_wrappers.hvac.env import HVAC

DOCS = Path(__file__).parents[3] / "docs" / "environments.md"
MATRICES = ("transition", "actuators", "outdoor", "ground", "solar")
HEADER = (
    "",
    "Zone Name",
    "Centroid Z-Coordinate {m}",
    "Minimum X {m}",
    "Maximum X {m}",
    "Minimum Y {m}",
    "Maximum Y {m}",
    "Minimum Z {m}",
    "Maximum Z {m}",
    "Floor Area {m2}",
    "Exterior Net Wall Area {m2}",
    "Exterior Window Area {m2}",
)


@pytest.fixture
def office() -> dict:
    """OfficeSmall as docs/environments.md states it."""
    block = re.search(r"```yml\n# office.yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return yaml.safe_load(block[1])


def written(folder: Path, building: dict) -> str:
    path = folder / "office.yaml"
    path.write_text(yaml.safe_dump(building))
    return str(path)


def report(zones: list[dict]) -> str:
    """An EnergyPlus report with other tables before and after the zone table."""
    areas = ("floor_area", "wall_area", "window_area")
    rows = [
        (i, z["name"], z["level"], *z["x"], *z["y"], *z["z"], *(z[a] for a in areas))
        for i, z in enumerate(zones)
    ]
    cells = [
        "<tr>" + "".join(f'<td align="right"> {c}</td>\n' for c in row) + "</tr>"
        for row in (HEADER, *rows)
    ]
    return (
        "<b>Zone Summary</b><br><table><tr><td>Area</td></tr></table>\n"
        f"<b>Zone Information</b><br><br>\n<table>{''.join(cells)}</table>"
        "<table><tr><td>after it</td></tr></table>"
    )


def epw(folder: Path, city: str = "tucson", change=lambda lines: None) -> str:
    """Writes a city's weather as an EnergyPlus file; its last two hours are equal."""
    weather = load_weather(city)
    hours = np.append(np.arange(8759) * 12, 8758 * 12)
    outdoor = weather.outdoor[hours]
    ghi = np.rint(weather.solar[hours] * weather.max_ghi)
    ground = np.unique(weather.ground[::12])[:11].round(2)
    lines = [["LOCATION", city], ["DESIGN CONDITIONS", "0"], ["TYPICAL", "0"]]
    lines += [["GROUND TEMPERATURES", "1", ".5", "", "", "", *map(str, ground), "9.5"]]
    lines += [["HOLIDAYS"], ["COMMENTS 1"], ["COMMENTS 2"], ["DATA PERIODS", "1", "1"]]
    for hour in range(8760):
        row = ["2003", "1", "1", "1", "0", "?", f"{outdoor[hour]:.1f}"]
        lines.append([*row, *["0"] * 6, f"{ghi[hour]:.0f}", "0", "0"])
    change(lines)
    path = folder / "city.epw"
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return str(path)


def test_the_office_of_the_docs_is_the_prototype(office: dict, tmp_path: Path) -> None:
    own, stored = load_building(written(tmp_path, office)), load_building("OfficeSmall")
    assert own.zones == stored.zones
    for key in MATRICES:  # those that SustainGym gave
        np.testing.assert_allclose(getattr(own, key), getattr(stored, key), atol=1e-12)
        assert not getattr(own, key).flags.writeable


def test_an_energyplus_report_gives_the_same_zones(office: dict, tmp_path) -> None:
    (tmp_path / "report.htm").write_text(report(office["zones"]))
    assert read_zone_table(tmp_path / "report.htm") == office["zones"]
    own = load_building(written(tmp_path, {**office, "zones": "report.htm"}))
    assert own.zones == load_building("OfficeSmall").zones


def test_a_box_by_hand(office: dict, tmp_path: Path) -> None:
    """A single zone follows one exponential of outdoors, ground, power and sun."""
    box = {"name": "box", "level": 1.5, "x": [0, 10], "y": [0, 8], "z": [0, 3]}
    box |= {"floor_area": 80, "wall_area": 90, "window_area": 12}
    u = dict.fromkeys(office["u_factors"], 0.5) | {"window": 2.0}
    building = {"zones": [box], "u_factors": u, "max_power": 4000, "shgc": 0.4}
    own = load_building(written(tmp_path, building))
    capacity = 1000 * 1.225 * 240  # J/K
    outdoor = 90 * 0.5 + 12 * 2.0 + 80 * 0.5  # walls, windows, roof: W/K
    ground = 80 * 0.5 * 0.5
    loss = outdoor + ground
    left = math.exp(-loss / capacity * 300)
    assert own.transition[0, 0] == pytest.approx(left, abs=1e-14)
    for key, watts in (
        ("outdoor", outdoor),
        ("ground", ground),
        ("solar", 12 * 0.4 * 0.01 * 12),
    ):
        assert getattr(own, key)[0] == pytest.approx((1 - left) * watts / loss)
    assert own.actuators[0, 0] == pytest.approx((1 - left) * 4000 / loss)


def test_weather_of_a_file(tmp_path: Path) -> None:
    own, stored = load_weather(epw(tmp_path)), load_weather("tucson")
    np.testing.assert_array_equal(own.outdoor[:-12], stored.outdoor[:-12])
    np.testing.assert_allclose(own.solar[:-12], stored.solar[:-12], atol=1e-15)
    assert own.max_ghi == stored.max_ghi
    assert own.ground[-1] == 9.5


def test_a_team_plays_there(office: dict, tmp_path: Path) -> None:
    office["zones"] = office["zones"][:3]
    files = {"building": written(tmp_path, office), "city": epw(tmp_path)}
    env = HVAC(**files, bins=21)
    assert env.possible_agents == ["zone_0", "zone_1", "zone_2"]
    parallel_api_test(env, num_cycles=20)
    assert check_env("hvac", files).ok
    twin = BatchedHVAC(2, **files, bins=21)
    twin.reset(np.arange(2), np.array([5, 5]))
    observations, _ = env.reset(seed=5)
    for _ in range(3):
        np.testing.assert_array_equal(twin.obs[1], np.stack([*observations.values()]))
        twin.step(np.full((2, 3), 4), np.ones(2, bool))
        observations, *_ = env.step(dict.fromkeys(env.agents, 4))


def without(key: str):
    return lambda office: office["zones"][1].pop(key)


def put(key: str, value: object):
    return lambda office: office["zones"][1].__setitem__(key, value)


BAD_BUILDINGS = {
    "zones[1]: x is missing": without("x"),
    "zone 'PERIMETER_ZN_1': x must be [least, greatest], with the smaller": put(
        "x", [3, 3]
    ),
    "zone 'PERIMETER_ZN_1': z must be [least, greatest]": put("z", 3),
    "zone 'PERIMETER_ZN_1': wall_area must not be negative": put("wall_area", -1),
    "zone 'PERIMETER_ZN_1': level must be a number": put("level", "high"),
    "zones[1]: unknown key 'wall_aria'. Did you mean 'wall_area'?": put("wall_aria", 1),
    "zones: the name 'CORE_ZN' occurs 2 times": put("name", "CORE_ZN"),
    "zones must be a list": lambda office: office.update(zones=3),
    "zones: {folder}/no.htm cannot be read": lambda o: o.update(zones="no.htm"),
    "the file: u_factors is missing": lambda office: office.pop("u_factors"),
    "u_factors: roof is missing": lambda office: office["u_factors"].pop("roof"),
    "u_factors.roof must be above 0": lambda o: o["u_factors"].update(roof=0),
    "max_power must be above 0": lambda office: office.update(max_power=-1),
    "shgc must lie in [0, 1]": lambda office: office.update(shgc=1.5),
    "zone 'tower' exchanges heat with nothing": lambda office: office["zones"].extend(
        [
            {**office["zones"][0], "name": name, "level": 9, "x": x, "y": x}
            for name, x in (("tower", [90, 91]), ("last", [95, 96]))
        ]
    ),
}


@pytest.mark.parametrize("message", BAD_BUILDINGS)
def test_a_building_file_that_cannot_be_used(message, office, tmp_path) -> None:
    BAD_BUILDINGS[message](office)
    path = written(tmp_path, office)
    with pytest.raises(EnvConfigError) as caught:
        HVAC(building=path)
    assert str(caught.value).startswith(path)
    assert message.format(folder=tmp_path) in str(caught.value)


def test_a_report_that_cannot_be_used(office: dict, tmp_path: Path) -> None:
    text = report(office["zones"])
    for damaged, message in (
        ("<html></html>", "has no table 'Zone Information'"),
        (text.replace("Floor Area", "Area"), "has no column 'Floor Area {m2}'"),
        (text.replace("113.45", "n/a"), "column 'Floor Area {m2}': holds 'n/a'"),
    ):
        (tmp_path / "report.htm").write_text(damaged)
        with pytest.raises(EnvConfigError, match=re.escape(message)):
            HVAC(building=written(tmp_path, {**office, "zones": "report.htm"}))
        load_building.cache_clear()


def set_cell(line: int, column: int, text: str):
    return lambda lines: lines[line].__setitem__(column, text)


BAD_WEATHER = {
    "has 8759 lines of data, but a year has 8760 hours.": lambda x: x.pop(),
    "Remove 29 February.": lambda lines: lines.extend(lines[8:32]),
    "line 1 must begin with LOCATION": set_cell(0, 0, "PLACE"),
    "line 9, column 7 (dry-bulb temperature): holds '99.9'": set_cell(8, 6, "99.9"),
    "line 10, column 7 (dry-bulb temperature): holds 'x'": set_cell(9, 6, "x"),
    "line 11, column 14 (global horizontal irradiance): holds '9999'": set_cell(
        10, 13, "9999"
    ),
    "column 14 (global horizontal irradiance): all values": set_cell(10, 13, "-1"),
    "has no monthly ground temperatures": lambda lines: lines[3].pop(),
}


@pytest.mark.parametrize("message", BAD_WEATHER)
def test_a_weather_file_that_cannot_be_used(message: str, tmp_path: Path) -> None:
    path = epw(tmp_path, change=BAD_WEATHER[message])
    with pytest.raises(EnvConfigError, match=re.escape(message)) as caught:
        HVAC(city=path)
    assert str(caught.value).startswith(path)


def test_names_and_paths_that_are_none() -> None:
    with pytest.raises(EnvConfigError, match=r"city: there is no file no\.epw"):
        HVAC(city=["tucson", "no.epw"])
    with pytest.raises(EnvConfigError, match=r"there is no file no\.yaml\. Relative"):
        HVAC(building="no.yaml")
    with pytest.raises(EnvConfigError, match=r"and the path of an \.epw file"):
        HVAC(city="atlantis")
