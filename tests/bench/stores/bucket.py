"""A bucket as the store of a daemon that is measured."""

from typing import Final

from tests.rigs import s3_servers

TABLES: Final = """
[store]
kind = "s3"
[store.s3]
bucket = "{bucket}"
endpoint = "{url}"
region = "{region}"
access_key = "{access}"
secret_key = "{secret}"
path_style = true
"""


def tables(url: str) -> str:
    """The tables of the config for the server at *url*."""
    keys = {"access": s3_servers.ACCESS_KEY, "secret": s3_servers.SECRET_KEY}
    return TABLES.format(url=url, bucket=s3_servers.BUCKET, region=s3_servers.REGION, **keys)
