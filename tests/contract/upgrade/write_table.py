"""``python write_table.py FOLDER``: what clusters, nodes and jobs leave in both stores, by the release whose
packages are on the path. How the tables in this folder were written, each by the commit in its name."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import boto3
from moto import mock_aws

from stix.adapters.dynamodb import DynamoStateStore
from stix.adapters.dynamodb_table import create_table_request
from stix.application import want
from stix.application.tokens import create_user_token
from tests.unit.world import ANN, WORKSPACE, ControlPlane


class BothStores:
    """Writes go to both, reads come from the first."""

    def __init__(self, first, second) -> None:
        self._first, self._second = first, second

    def __getattr__(self, name):
        def call(*arguments, **options):
            if name in ("put", "delete", "transact"):
                getattr(self._second, name)(*arguments, **options)
            return getattr(self._first, name)(*arguments, **options)

        return call


def main(folder: Path) -> None:
    with mock_aws(), tempfile.TemporaryDirectory() as scratch:
        client = boto3.client("dynamodb", region_name="eu-west-1")
        client.create_table(**create_table_request("stix"))
        plane = ControlPlane(Path(scratch))
        table = DynamoStateStore("stix", client, clock=plane.clock.now)
        object.__setattr__(plane.world, "store", BothStores(plane.store, table))
        create_user_token(plane.world, token="ann-token", workspace=WORKSPACE, user="ann")
        up = plane.bring_up("up", task={"num_nodes": 2})
        plane.report(up, 0, jobs=[{"id": 1, "status": "RUNNING"}], idle_since=None)
        plane.execute("up")
        plane.launch("starting")
        plane.bring_up("stopping")
        want.stop_cluster(plane.world, ANN, "stopping", key=None)
        plane.bring_up("going")
        want.take_down(plane.world, ANN, "going", purge=False, key="once")
        items = client.scan(TableName="stix")["Items"]
        (folder / "table.json").write_text(json.dumps(items, indent=1, sort_keys=True) + "\n")
        database = sqlite3.connect(Path(scratch) / "state.db")
        pragmas = [
            f"PRAGMA {name} = {database.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        lines = [line for line in database.iterdump() if "sqlite_stat" not in line]
        (folder / "state.sql").write_text("\n".join([*pragmas, *lines]) + "\n")
        plane.close()


if __name__ == "__main__":
    os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    main(Path(sys.argv[1]))
