"""Oracle: TensorBoard's own EventAccumulator and record reader on the files that EventWriter makes."""

import math
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

HELPER = os.environ["DEEPLORA_BASE_HELPER"]
LONG_TEXT = "# Configuration\n\n```yaml\ntrain: {lr: 1e-3}\nnote: 'ü €'\n```\n" + "x" * 1000


def write_events(folder, first_step, points):
    """Lets EventWriter write a session; points are TAG=STEP=VALUE."""
    words = [f"{tag}={step}={value!r}" for tag, step, value in points]
    subprocess.run([HELPER, "events", folder, first_step, LONG_TEXT, *words], check=True)


def accumulated(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


class EventsTest(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def test_scalars_are_read_with_their_steps_and_float32_values(self):
        values = [0.1, -1.5e30, 1e-30, 3.0, 0.0]
        points = [("train/loss", step, value) for step, value in enumerate(values)]
        points += [("dev/pearson", 2**40, 0.75), ("größe", 300, 1.0)]
        write_events(self.folder, "-", points)
        accumulator = accumulated(self.folder)
        self.assertEqual(set(accumulator.Tags()["scalars"]), {"train/loss", "dev/pearson", "größe"})
        for tag in accumulator.Tags()["scalars"]:
            expected = [(step, float(numpy.float32(value))) for name, step, value in points if name == tag]
            self.assertEqual([(e.step, e.value) for e in accumulator.Scalars(tag)], expected)

    def test_undefined_values_stay_undefined(self):
        write_events(self.folder, "-", [("dev/pearson", 1, math.nan), ("dev/pearson", 2, math.inf)])
        got = [e.value for e in accumulated(self.folder).Scalars("dev/pearson")]
        self.assertTrue(math.isnan(got[0]))
        self.assertEqual(got[1], math.inf)

    def test_text_is_shown_by_the_text_plugin(self):
        write_events(self.folder, "-", [])
        accumulator = accumulated(self.folder)
        self.assertEqual(accumulator.SummaryMetadata("configuration").plugin_data.plugin_name, "text")
        (event,) = accumulator.Tensors("configuration")
        self.assertEqual([part.decode() for part in event.tensor_proto.string_val], [LONG_TEXT])
        self.assertEqual([dim.size for dim in event.tensor_proto.tensor_shape.dim], [1])

    def test_a_resumed_session_replaces_what_was_written_beyond_its_checkpoint(self):
        write_events(self.folder, "-", [("loss", step, 1.0) for step in range(1, 31)])
        write_events(self.folder, "21", [("loss", step, 2.0) for step in range(21, 41)])
        got = [(e.step, e.value) for e in accumulated(self.folder).Scalars("loss")]
        self.assertEqual(got, [(step, 1.0) for step in range(1, 21)] + [(step, 2.0) for step in range(21, 41)])

    def test_every_record_passes_the_readers_checksums_and_carries_its_time(self):
        write_events(self.folder, "5", [("loss", 5, 1.0)])
        (file,) = self.folder.iterdir()
        events = list(LegacyEventFileLoader(str(file)).Load())
        self.assertEqual(events[0].file_version, "brain.Event:2")
        self.assertEqual(events[1].session_log.status, events[1].session_log.START)
        self.assertEqual(events[1].step, 5)
        self.assertEqual(len(events), 4)
        for event in events:
            self.assertAlmostEqual(event.wall_time, file.stat().st_mtime, delta=60)


if __name__ == "__main__":
    unittest.main()
