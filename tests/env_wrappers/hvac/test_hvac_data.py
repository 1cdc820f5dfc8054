"""The stored weather and buildings of the env `hvac` are SustainGym's."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from rllib_risk.env_wrappers.errors import EnvConfigError
from rllib_risk.env_wrappers.hvac import data as hvac_data
from rllib_risk.env_wrappers.hvac.data import (
    BUILDINGS,
    CITIES,
    STEPS_PER_YEAR,
    load_building,
    load_weather,
    start_rows,
)

DATA = Path(hvac_data.__file__).parent / "weather"


@pytest.mark.parametrize("city", CITIES)
def test_a_year_of_weather(city):
    weather = load_weather(city)
    # 8759 hours of twelve steps: the last of 8760 hourly values has no successor
    for series in (weather.outdoor, weather.ground, weather.solar):
        assert series.shape == (8759 * 12,) and series.dtype == np.float64
        assert np.isfinite(series).all()
    assert weather.solar.min() == 0.0 and weather.solar.max() == 1.0
    # Wh per m2 and hour: no place on Earth gets more than the sun sends, 1361 W/m2
    assert 700 < weather.max_ghi < 1361
    # straight lines between the hours: the middle is the mean of both ends
    hours = weather.outdoor[::12]
    np.testing.assert_allclose(
        weather.outdoor[6:-12:12], (hours[:-1] + hours[1:]) / 2, atol=1e-12
    )
    # stored in tenths of a degree
    np.testing.assert_allclose(hours * 10, np.rint(hours * 10), atol=1e-9)


def test_the_mean_temperatures_of_the_paper_s_cities():
    cities = ("tucson", "tampa", "honolulu", "el_paso", "port_angeles", "new_york")
    assert CITIES[:6] == cities
    # over the year, over days 0 .. 199 and over the rest, to one decimal
    expected = [
        (21.7, 21.6, 21.8),
        (21.9, 21.1, 22.9),
        (24.9, 24.2, 25.8),
        (18.0, 18.0, 17.9),
        (9.3, 8.4, 10.3),
        (12.6, 10.8, 14.7),
    ]
    day_200 = 200 * 288
    for city, means in zip(cities, expected, strict=True):
        outdoor = load_weather(city).outdoor
        parts = (outdoor, outdoor[:day_200], outdoor[day_200:])
        assert [part.mean() for part in parts] == pytest.approx(means, abs=0.06)


def test_the_ground():
    ground = load_weather("tucson").ground
    # one value per month, the first on 1 January, the last in December
    assert ground[0] == 20.9 and ground[-1] == 27.8
    assert len(np.unique(ground[::12])) == 11  # 15.4 occurs twice
    paper, own, seattle = (
        load_weather(city)
        for city in ("port_angeles", "port_angeles_own_ground", "seattle")
    )
    np.testing.assert_array_equal(paper.ground, seattle.ground)
    np.testing.assert_array_equal(paper.outdoor, own.outdoor)
    assert own.ground[0] == 9.3 and seattle.ground[0] == 11.4
    assert not np.array_equal(paper.outdoor, seattle.outdoor)


def test_the_days_begin_where_sustaingym_lets_them_begin():
    days = np.array([0, 1, 100, 199, 200, 364])
    assert start_rows(days).tolist() == [0, 287, 28796, 57305, 57593, 104820]
    # the last day is whole: 104820 + 288 is the length of the table
    assert STEPS_PER_YEAR == 105_108


def test_office_small():
    building = load_building("OfficeSmall")
    assert building.zones == (
        "CORE_ZN",
        "PERIMETER_ZN_1",
        "PERIMETER_ZN_2",
        "PERIMETER_ZN_3",
        "PERIMETER_ZN_4",
        "ATTIC",
    )
    first_row = [
        0.5090173105,
        0.1048707166,
        0.0575907074,
        0.1124203213,
        0.0550976801,
        0.1387469315,
    ]
    np.testing.assert_allclose(building.transition[0], first_row, atol=5e-11)
    radius = np.abs(np.linalg.eigvals(building.transition)).max()
    assert radius == pytest.approx(0.96863305, abs=5e-9)
    actuators = [
        3.08715891,
        0.2934109975,
        0.2311009737,
        0.3181234144,
        0.2239509962,
        0.0775253697,
    ]
    np.testing.assert_allclose(building.actuators[0], actuators, atol=5e-9)
    assert building.ground[0] == pytest.approx(0.0112054288, abs=5e-11)
    assert building.outdoor[0] == pytest.approx(0.0110509038, abs=5e-11)
    # per unit of GHI; times the year's maximum in Tucson it is the published column
    solar = building.solar[0] * load_weather("tucson").max_ghi
    assert solar == pytest.approx(0.0661870792, abs=5e-11)


@pytest.mark.parametrize(("name", "num_zones"), BUILDINGS.items())
def test_buildings(name, num_zones):
    building = load_building(name)
    assert len(building.zones) == len(set(building.zones)) == num_zones
    assert building.transition.shape == building.actuators.shape == (num_zones,) * 2
    for column in (building.outdoor, building.ground, building.solar):
        assert column.shape == (num_zones,)
        assert (column >= -1e-12).all()  # warmth outside never cools a zone
    radius = np.abs(np.linalg.eigvals(building.transition)).max()
    assert 0.81 <= radius <= 0.9931
    # Conservation: in the dark and without power, a building as warm as its
    # surroundings stays so. Thus the weights of zones, air and ground add up to one.
    weights = building.transition.sum(axis=1) + building.outdoor + building.ground
    np.testing.assert_allclose(weights, 1.0, atol=1e-9)
    # An actuator puts 8000 W into a zone for 300 s while the heat spreads. This is the
    # integral of the transition, so each actuator warms its own zone most.
    assert (building.actuators.argmax(axis=0) == np.arange(num_zones)).all()


def test_what_is_loaded_is_shared_and_cannot_be_changed():
    assert load_weather("tampa") is load_weather("tampa")
    with pytest.raises(ValueError, match="read-only"):
        load_weather("tampa").outdoor[0] = 0.0
    with pytest.raises(ValueError, match="read-only"):
        load_building("Warehouse").transition[0, 0] = 0.0


def test_unknown_names_say_what_is_near():
    with pytest.raises(
        EnvConfigError, match="unknown city 'Tuscon': did you mean 'tuc"
    ):
        load_weather("Tuscon")
    with pytest.raises(EnvConfigError, match="known are tucson, tampa"):
        load_weather("xxx")
    with pytest.raises(EnvConfigError, match="did you mean 'OfficeSmall'"):
        load_building("office_small")


def test_the_sources_are_named_beside_the_data():
    text = (DATA / "ATTRIBUTION.md").read_text("utf-8")
    for words in ("CC BY 4.0", "SustainGym 0.1.7", "TMY3", "ASHRAE 90.1-2019"):
        assert words in text
    for city in CITIES:
        assert f"| {city} |" in text
    with np.load(DATA / "hvac_weather.npz") as stored:
        assert tuple(stored["cities"].tolist()) == CITIES
    with np.load(DATA / "hvac_buildings.npz") as stored:
        assert {key.split("/")[0] for key in stored.files} == set(BUILDINGS)
    assert sum(path.stat().st_size for path in DATA.glob("*.npz")) < 1_000_000


@pytest.mark.parametrize(
    ("building", "weather", "location", "city"),
    [
        ("OfficeSmall", "Hot_Dry", "Tucson", "tucson"),
        ("Warehouse", "Cool_Marine", "Seattle", "port_angeles"),
        ("RetailStripmall", "Subarctic/Arctic", "Fairbanks", "fairbanks"),
        ("SchoolPrimary", "Mixed_Marine", "Seattle", "seattle"),
    ],
)
def test_against_sustaingym_itself(building, weather, location, city):
    sustaingym = pytest.importorskip("sustaingym.envs.building")
    with contextlib.redirect_stdout(io.StringIO()):
        given = sustaingym.ParameterGenerator(
            building, weather, location, is_continuous_action=False
        )
    ours = load_weather(city)
    np.testing.assert_array_equal(ours.outdoor, given["out_temp"])
    np.testing.assert_array_equal(ours.ground, given["ground_temp"])
    np.testing.assert_allclose(ours.solar, given["ghi"], rtol=0, atol=2e-16)
    env = sustaingym.BuildingEnv(given)
    model = load_building(building)
    assert model.zones == tuple(zone.name for zone in given["zones"])
    np.testing.assert_allclose(model.transition, env.A_d, rtol=0, atol=1e-13)
    # columns: people (none), ground, outdoor, actuators, sun
    columns = [model.ground, model.outdoor, *model.actuators.T]
    np.testing.assert_allclose(env.BD_d[:, 0], 0.0)
    np.testing.assert_allclose(
        env.BD_d[:, 1:-1], np.stack(columns, axis=1), rtol=0, atol=1e-12
    )
    np.testing.assert_allclose(
        env.BD_d[:, -1], model.solar * ours.max_ghi, rtol=1e-12, atol=1e-14
    )
