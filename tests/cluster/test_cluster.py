import pytest

pytestmark = pytest.mark.cluster


def test_all_nodes_are_idle(cluster):
    assert cluster.node_states() == dict.fromkeys(cluster.nodes, "idle")
