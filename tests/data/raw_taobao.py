"""Small raw files of the two Taobao sets in the documented formats."""

import gzip
import pathlib

# Written from the data pages, not from the loaders; the last name of the profile ends in a blank there too.
SAMPLE_COLUMNS = "user,time_stamp,adgroup_id,pid,nonclk,clk"
AD_COLUMNS = "adgroup_id,cate_id,campaign_id,customer,brand,price"
PROFILE_COLUMNS = (
    "userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,"
    "new_user_class_level "
)
# 2017-11-25 and 2017-05-06, midnight in Beijing, which is 16:00 UTC on the day before.
BEHAVIOUR_START, AD_START = 1511539200, 1494000000
DAY, HOUR = 86_400, 3_600
BEHAVIOURS = ("pv", "pv", "fav", "cart", "buy")


def behaviour_row(i: int) -> dict[str, str]:
    """Event i: nine days, five users, the hour that of its number."""
    time = BEHAVIOUR_START + i % 9 * DAY + i % 24 * HOUR + i % HOUR
    row = {"user_id": str(1 + i % 5), "item_id": str(2_268_318 + i % 6), "category_id": str(2_520_377 + i % 3)}
    return row | {"behaviour": BEHAVIOURS[i % 7 % 5], "timestamp": str(time)}


def ad_row(i: int) -> dict[str, str]:
    """Impression i: eight days; user 5 has no profile, ad 4 has no row in its table."""
    time = AD_START + i % 8 * DAY + i % 24 * HOUR + i % HOUR
    row = {"user": str(1 + i % 5), "time_stamp": str(time), "adgroup_id": str(i % 5)}
    return row | {
        "pid": ("430548_1007", "430539_1007")[i % 2],
        "nonclk": str(int(i % 3 > 0)),
        "clk": str(int(i % 3 == 0)),
    }


def write(path: pathlib.Path, lines: list[str], zipped: bool = False) -> pathlib.Path:
    """A text file, gzip by its option; returns its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines) + "\n"
    if zipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path.parent


def write_behaviour(directory: pathlib.Path, rows: int, name: str = "UserBehavior.csv", zipped: bool = False):
    """`UserBehavior.csv`, and two events outside of its days."""
    lines = [",".join(behaviour_row(i).values()) for i in range(rows)]
    lines += [f"1,2268318,2520377,pv,{BEHAVIOUR_START - 1}", f"1,2268318,2520377,buy,{BEHAVIOUR_START + 9 * DAY}"]
    return write(directory / name, lines, zipped)


def write_ads(directory: pathlib.Path, rows: int) -> pathlib.Path:
    """The three files."""
    write(directory / "raw_sample.csv", [SAMPLE_COLUMNS, *(",".join(ad_row(i).values()) for i in range(rows))])
    brands = ("95471", "NULL", "", "7")
    ads = [f"{ad},{6400 + ad % 2},{83237 + ad},{ad},{brands[ad]},{100.0 * (ad + 1)}" for ad in range(4)]
    write(directory / "ad_feature.csv", [AD_COLUMNS, *ads])
    profiles = [f"{user},0,{user},2,5,{'' if user == 2 else 1},3,0,{user % 3}" for user in range(1, 5)]
    return write(directory / "user_profile.csv", [PROFILE_COLUMNS, *profiles], zipped=True)
