"""The bounds of one execution when nothing is set."""

import dataclasses

from mcp_python_executor.limits import Limits


def test_every_bound_is_a_positive_number():
    assert all(value > 0 for value in dataclasses.astuple(Limits()))


def test_what_is_kept_of_an_output_is_at_least_what_a_result_carries():
    limits = Limits()
    assert limits.kept_output_bytes >= limits.inline_output_bytes


def test_each_execution_at_once_can_also_wait():
    limits = Limits()
    assert limits.queued >= limits.concurrent
