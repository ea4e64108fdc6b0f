# SPDX-License-Identifier: Apache-2.0
"""The ring against a plain list, and the phases of groups."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from video_depth_ros.errors import RegressorError
from video_depth_ros.window import GroupPhase, TensorRing


@settings(deadline=None, max_examples=50)
@given(capacity=st.integers(1, 7), count=st.integers(0, 30))
def test_ring_holds_the_newest_entries_oldest_first(capacity, count):
    ring = TensorRing(capacity, torch.zeros(2))
    taken = []
    for i in range(count):
        ring.append(torch.tensor([i, -i], dtype=torch.float32))
        taken.append(float(i))
        kept = taken[-capacity:]
        assert ring.view()[:, 0].tolist() == kept
        for n in range(len(kept) + 1):
            assert ring.view(n)[:, 0].tolist() == kept[len(kept) - n :]
    assert len(ring) == min(capacity, count)
    assert ring.written == count


def test_ring_never_allocates_again():
    ring = TensorRing(3, torch.zeros(4, 4))
    ring.append(torch.ones(4, 4))
    storage = ring.view().untyped_storage().data_ptr()
    for _ in range(20):
        ring.append(torch.ones(4, 4))
        assert ring.view().untyped_storage().data_ptr() == storage
    ring.clear()
    assert len(ring) == 0 and ring.view().shape == (0, 4, 4)


def test_ring_refuses_what_it_does_not_hold():
    ring = TensorRing(3, torch.zeros(1))
    ring.append(torch.zeros(1))
    with pytest.raises(RegressorError, match="0 to 1"):
        ring.view(2)
    with pytest.raises(RegressorError, match="at least 1"):
        TensorRing(0, torch.zeros(1))


@given(first=st.integers(1, 5), group=st.integers(1, 8), groups=st.integers(0, 40))
def test_phases_partition_the_stream(first, group, groups):
    phase = GroupPhase(first, group)
    assert phase.frames(groups) == sum(phase.size(g) for g in range(groups))
    for frame in range(phase.frames(groups)):
        g = phase.group_of(frame)
        assert phase.frames(g) <= frame < phase.frames(g + 1)


def test_dvd_phases():
    phase = GroupPhase(1, 4)
    assert [phase.group_of(f) for f in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]
