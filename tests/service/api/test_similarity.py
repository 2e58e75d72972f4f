"""The cameras of a take beside each other."""

import numpy as np
from fastapi.testclient import TestClient

from tests.service.api.test_api import client, root

__all__ = ["client", "root"]


def test_cameras_are_compared_pair_by_pair(client: TestClient) -> None:
    whole = client.get("/v1/takes/one/similarity").json()
    row = client.get("/v1/takes/one/timeline").json()
    assert whole["streams"] == [one["stream"] for one in row["streams"]]
    assert whole["clips"] == len(row["clip"])
    matrix = np.array(whole["similarity"], dtype=float)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-3)
    start, end = row["start_time"][1], row["end_time"][1]
    some = client.get("/v1/takes/one/similarity", params={"start": start, "end": end}).json()
    assert 0 < some["clips"] < whole["clips"]
