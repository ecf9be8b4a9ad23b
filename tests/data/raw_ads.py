"""Small raw files of Avazu and iPinYou in the documented formats."""

import datetime
import gzip
import pathlib

# Written from the data pages, not from the loaders.
AVAZU_COLUMNS = (
    "id",
    "click",
    "hour",
    "C1",
    "banner_pos",
    "site_id",
    "site_domain",
    "site_category",
    "app_id",
    "app_domain",
    "app_category",
    "device_id",
    "device_ip",
    "device_model",
    "device_type",
    "device_conn_type",
    "C14",
    "C15",
    "C16",
    "C17",
    "C18",
    "C19",
    "C20",
    "C21",
)
IPINYOU_COLUMNS = (
    "click",
    "weekday",
    "hour",
    "bidid",
    "timestamp",
    "logtype",
    "ipinyouid",
    "useragent",
    "IP",
    "region",
    "city",
    "adexchange",
    "domain",
    "url",
    "urlid",
    "slotid",
    "slotwidth",
    "slotheight",
    "slotvisibility",
    "slotformat",
    "slotprice",
    "creative",
    "bidprice",
    "payprice",
    "keypage",
    "advertiser",
    "usertag",
)
IPINYOU_TEST_COLUMNS = [*IPINYOU_COLUMNS, "nclick", "nconversation"]


def avazu_row(i: int) -> dict[str, str]:
    """Record i, counted from 0, of `train`."""
    time = datetime.datetime(2014, 10, 21) + datetime.timedelta(hours=i % 240)
    row = {name: str(i % (k + 2)) for k, name in enumerate(AVAZU_COLUMNS) if name.startswith("C")}
    row |= {name: f"{i % (k + 2):08x}" for k, name in enumerate(AVAZU_COLUMNS) if name not in row}
    # Each address once, but for one that is frequent.
    row["device_ip"] = f"{i:08x}" if i % 3 else "ddd2926e"
    row["C20"] = "-1" if i % 2 else "100084"
    row |= {"banner_pos": str(i % 2), "device_type": str(i % 3), "device_conn_type": str(i % 4)}
    return row | {"id": str(10**19 + i), "click": str(int(i % 6 == 0)), "hour": time.strftime("%y%m%d%H")}


def ipinyou_row(i: int, test: bool = False) -> dict[str, str]:
    """Record i of the training or test file; one address is in every twentieth."""
    time = datetime.datetime(2013, 6, 6 + 7 * test) + datetime.timedelta(hours=8 * (i % 21))
    row = {name: f"{name}{i % (2 + k % 3)}" for k, name in enumerate(IPINYOU_COLUMNS)}
    row |= {
        name: str(1000 * (k + 1) + i % 4)
        for k, name in enumerate(("region", "city", "slotwidth", "slotheight", "adexchange"))
    }
    row |= {
        "useragent": ("windows_ie", "android_chrome", "other_other")[i % 3],
        "IP": "120.69.224.*" if i % 20 == 0 else f"115.45.{i % 3}.*",
    }
    row |= {"domain": "null" if i % 5 == 0 else f"trqRTJkrBoq7JsNr5SqfN{i % 3}", "usertag": "10006,10110"}
    row |= {"slotprice": str((0, 1, 10, 11, 50, 51, 100, 101, 300)[i % 9]), "advertiser": ("1458", "3386")[i % 2]}
    row |= {
        "bidid": f"{i + 10**6 * test:032x}",
        "click": str(int(i % 10 == 0)),
        "timestamp": time.strftime("%Y%m%d%H%M%S000"),
    }
    row |= {"weekday": time.strftime("%w"), "hour": time.strftime("%H")}
    return row | ({"nclick": row["click"], "nconversation": "0"} if test else {})


def _write(path: pathlib.Path, text: str, zipped: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_avazu(directory: pathlib.Path, rows: int, name: str = "train.csv", zipped: bool = False) -> pathlib.Path:
    """Kaggle's `train.csv`, or `train.gz`: name `train`, zipped."""
    lines = [",".join(AVAZU_COLUMNS), *(",".join(avazu_row(i)[name] for name in AVAZU_COLUMNS) for i in range(rows))]
    _write(directory / name, "\n".join(lines) + "\n", zipped)
    return directory


def write_ipinyou(directory: pathlib.Path, rows: int, test_rows: int, zipped: bool = False) -> pathlib.Path:
    """The two files of a campaign's folder."""
    for name, columns, count in (
        ("train.log.txt", IPINYOU_COLUMNS, rows),
        ("test.log.txt", IPINYOU_TEST_COLUMNS, test_rows),
    ):
        found = (ipinyou_row(i, test=name.startswith("test")) for i in range(count))
        lines = ["\t".join(columns), *("\t".join(row[column] for column in columns) for row in found)]
        _write(directory / name, "\n".join(lines) + "\n", zipped)
    return directory
