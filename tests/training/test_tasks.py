"""What training hides: every side, every task, and some windows that go on from whole frames."""

import numpy as np
import pytest

from hero_train.examples import MAX_RATIO, MIN_RATIO, random_task


@pytest.mark.parametrize("extent", [(128, 128), (256, 64)], ids=["square", "wide"])
def test_tasks_hide_what_they_say(extent):
    width, height = extent
    tasks = [random_task(width, height, np.random.default_rng(i)) for i in range(400)]
    kinds = set()
    for task in tasks:
        canvas = task.canvas
        assert (canvas.width, canvas.height) == extent
        across, down = (canvas.left + canvas.right) / width, (canvas.top + canvas.bottom) / height
        for hidden in (across, down):
            assert hidden == 0 or MIN_RATIO - 0.01 <= hidden <= MAX_RATIO + 0.01
        kinds.add((across > 0, down > 0))
        assert task.known_frames in (0, 2, 3, 4)
    assert kinds == {(True, False), (False, True), (True, True)}
    assert {task.known_frames for task in tasks} == {0, 2, 3, 4}
    known = np.mean([task.known_frames > 0 for task in tasks])
    assert 0.2 < known < 0.4
    widest = max((task.canvas.left + task.canvas.right) / width for task in tasks)
    assert widest > 0.75  # the paper evaluates at 0.666
    assert any(task.canvas.left == 0 < task.canvas.right for task in tasks)
    assert any(task.canvas.left == task.canvas.right > 0 for task in tasks)
