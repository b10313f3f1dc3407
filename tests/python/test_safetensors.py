"""Oracle: the safetensors package. It reads what we write, we read what it writes, and both write the same bytes."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy
    from safetensors import safe_open
    from safetensors.numpy import save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

try:
    import torch
    from safetensors.torch import save_file as save_torch_file
except ImportError:
    torch = None

HELPER = os.environ["DEEPLORA_BASE_HELPER"]


def copy(source, target):
    return subprocess.run([HELPER, "copy-safetensors", source, target], capture_output=True, text=True)


def arrays():
    generator = numpy.random.default_rng(1)
    out = {"scalar": numpy.array(2.5, numpy.float32), "empty": numpy.zeros((0, 7), numpy.float16),
           'quote"\\ \n name é': numpy.arange(3, dtype=numpy.int32)}
    for number, dtype in enumerate([numpy.float64, numpy.float32, numpy.float16, numpy.int64, numpy.int32, numpy.int16,
                                    numpy.int8, numpy.uint8, numpy.bool_]):
        # The names run against the order of the dtypes, so that neither order alone explains the file.
        out[f"{9 - number}.{numpy.dtype(dtype).name}"] = (generator.normal(size=(3, number + 1)) * 9).astype(dtype)
    return out


class SafeTensorsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.source = Path(self.folder.name) / "source.safetensors"
        self.target = Path(self.folder.name) / "target.safetensors"

    def test_copy_of_a_reference_file_is_the_same_bytes(self):
        # One metadata entry at most: the reference writes several in random order.
        for metadata in (None, {"format": "pt"}):
            save_file(arrays(), self.source, metadata)
            self.assertEqual(copy(self.source, self.target).stderr, "")
            self.assertEqual(self.source.read_bytes(), self.target.read_bytes())

    def test_reference_reads_what_we_write(self):
        metadata = {"format": "pt", "note": 'a "quoted" \t ü', "base": "x"}
        save_file(arrays(), self.source, metadata)
        self.assertEqual(copy(self.source, self.target).returncode, 0)
        with safe_open(self.target, framework="numpy") as opened:
            self.assertEqual(opened.metadata(), metadata)
            self.assertEqual(set(opened.keys()), set(arrays()))
            for name, expected in arrays().items():
                got = opened.get_tensor(name)
                self.assertEqual(got.dtype, expected.dtype)
                numpy.testing.assert_array_equal(got, expected)

    @unittest.skipIf(torch is None, "torch is not installed")
    def test_bfloat16_survives(self):
        value = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
        save_torch_file({"a": value, "b": value.float()}, self.source)
        self.assertEqual(copy(self.source, self.target).returncode, 0)
        self.assertEqual(self.source.read_bytes(), self.target.read_bytes())

    def test_a_file_without_tensors_is_fine_for_both(self):
        save_file({}, self.source)
        self.assertEqual(copy(self.source, self.target).returncode, 0)
        with safe_open(self.target, framework="numpy") as opened:
            self.assertEqual(list(opened.keys()), [])

    def test_what_the_reference_refuses_we_refuse(self):
        save_file({"a": numpy.arange(4, dtype=numpy.float32), "b": numpy.arange(2, dtype=numpy.int8)}, self.source)
        good = self.source.read_bytes()
        length = struct.unpack("<Q", good[:8])[0]
        header, data = json.loads(good[8:8 + length]), good[8 + length:]

        def with_header(change, payload=data):
            edited = json.loads(json.dumps(header))
            change(edited)
            text = json.dumps(edited).encode()
            return struct.pack("<Q", len(text)) + text + payload

        bad = {
            "cut data": good[:-1], "cut header": good[:20], "cut length": good[:5], "empty": b"",
            "trailing byte": good + b"\0", "huge length": struct.pack("<Q", 2**63) + good[8:],
            "not JSON": good[:8] + b"x" + good[9:],
            "unknown dtype": with_header(lambda h: h["a"].update(dtype="F33")),
            "wrong shape": with_header(lambda h: h["a"].update(shape=[5])),
            "overflowing shape": with_header(lambda h: h["a"].update(shape=[2**62, 2**62])),
            "negative size": with_header(lambda h: h["a"].update(shape=[-4])),
            "overlap": with_header(lambda h: h["b"].update(data_offsets=[14, 16])),
            "hole": with_header(lambda h: h["b"].update(data_offsets=[17, 19]), data + b"\0"),
            "backwards": with_header(lambda h: h["b"].update(data_offsets=[18, 16])),
            "missing key": with_header(lambda h: h["b"].pop("shape")),
            "metadata not strings": with_header(lambda h: h.update(__metadata__={"x": 1})),
        }
        for what, content in bad.items():
            with self.subTest(what):
                self.source.write_bytes(content)
                with self.assertRaises(Exception):
                    with safe_open(self.source, framework="numpy") as opened:
                        opened.keys()
                self.target.unlink(missing_ok=True)
                result = copy(self.source, self.target)
                self.assertEqual(result.returncode, 1, what)
                self.assertIn(str(self.source), result.stderr)
                self.assertEqual(len(result.stderr.splitlines()), 1)
                self.assertFalse(self.target.exists())


if __name__ == "__main__":
    unittest.main()
