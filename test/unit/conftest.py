"""What several files here test on: a small checkpoint of OpenVLA-OFT's layout."""

import pytest
from tiny_checkpoints import write_tiny_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def checkpoint(folder):
    from specprune_ros.model.checkpoint import load_checkpoint

    return load_checkpoint(folder)
