# SPDX-License-Identifier: Apache-2.0
"""conftest.py - where pytest looks for fixtures."""

# ruff: noqa: F401  used by their names
from fixtures import ca, kafka, new_world, pytest_collection_modifyitems, pytest_configure, pytest_runtest_makereport
