"""Programs of torch.export: inspected, trained, merged and loaded again in PyTorch; forms of arguments and results;
what is refused, in one line."""
from __future__ import annotations

import io
import json
import random
import zipfile

import pytest
import torch
from torch import nn

WORDS, WIDTH = 60, 16
pytestmark = pytest.mark.filterwarnings("ignore")
FREE = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}


class Encoder(nn.Module):
    """Hidden states [B, T, D] of a mask and ids."""

    def __init__(self):
        super().__init__()
        self.embed, self.query, self.value, self.fc = nn.Embedding(WORDS, WIDTH), *(nn.Linear(WIDTH, WIDTH) for _
            in range(3))
        self.norm, self.drop = nn.LayerNorm(WIDTH), nn.Dropout(0.1)

    def states(self, ids, mask):
        x = self.embed(ids)
        score = torch.matmul(self.query(x), x.transpose(1, 2)).masked_fill(mask.unsqueeze(1) == 0, float("-inf"))
        x = self.norm(x + self.drop(torch.matmul(torch.softmax(score, -1), self.value(x))))
        return x + torch.relu(self.fc(x))

    def forward(self, input_ids, attention_mask):
        return self.states(input_ids, attention_mask)


def sample(length: int = 7, rows: int = 2):
    ids = torch.randint(5, WORDS, (rows, length), generator=torch.Generator().manual_seed(rows))
    return ids, torch.ones_like(ids)


def program_of(module, *arguments, shapes=None, **named):
    torch.manual_seed(0)
    if not arguments and not named:
        arguments = sample()
    free = shapes or ({name: FREE for name in named} if named else tuple(FREE for _ in arguments))
    return torch.export.export(module.eval(), arguments, named, dynamic_shapes=free)


def saved(folder, program, name="model.pt2", **options):
    torch.export.save(program, folder / name, **options)
    return folder / name


@pytest.fixture
def rows(tmp_path):
    rng = random.Random(4)
    lines = [{"input_ids": [rng.randrange(5, WORDS) for _ in range(rng.randint(3, 9))], "label": rng.choice("ab")} for _
             in range(24)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "rows.jsonl"


def train(run, model, rows, folder, *settings):
    run("finetune", "--model", model, "--train", rows, "--dev", rows, "--task", "classification", "--steps", "6",
        "--lr", "0.02", "--run", folder,
        *(part for setting in settings for part in ("--set", setting)))
    return folder


def predictions(run, model, rows) -> torch.Tensor:
    lines = run("predict", model, "--input", rows).stdout.splitlines()
    return torch.tensor([json.loads(line)["logits"] for line in lines])


def in_python(path, rows) -> torch.Tensor:
    """The merged program's logits, row by row padded together, in plain PyTorch."""
    listed = [json.loads(line)["input_ids"] for line in rows.read_text().splitlines()]
    ids, mask = torch.zeros(len(listed), 9, dtype=torch.int64), torch.zeros(len(listed), 9, dtype=torch.int64)
    for i, row in enumerate(listed):
        ids[i, :len(row)], mask[i, :len(row)] = torch.tensor(row), 1
    program = torch.export.load(path)
    module = program.module()
    with torch.no_grad():
        return module(input_ids=ids, attention_mask=mask) if program.example_inputs[1] else module(ids, mask)


def test_inspect_shows_what_can_be_adapted(run, tmp_path):
    found = json.loads(run("inspect", saved(tmp_path, program_of(Encoder())), "--json").stdout)
    assert found["kind"] == "exported program" and found["backend"] == "graph" and found["inputs"] == ["input_ids",
        "attention_mask"]
    assert {site["path"] for site in found["sites"]} == {"embed.weight", "query.weight", "value.weight", "fc.weight"}
    assert found["parameters"] == sum(p.numel() for p in Encoder().parameters())


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_a_program_is_trained_and_merged(pooling, run, rows, tmp_path):
    model = saved(tmp_path, program_of(Encoder()), extra_files={"notes.txt": "kept"})
    train(run, model, rows, tmp_path / "run", f"model.pooling={pooling}")
    merged = tmp_path / "merged.pt2"
    said = run("export", tmp_path / "run", "--output", merged).stdout
    assert "weights merged" in said
    ours = predictions(run, tmp_path / "run", rows)
    torch.testing.assert_close(in_python(merged, rows), ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(predictions(run, merged, rows), ours, rtol=0, atol=1e-5)
    with zipfile.ZipFile(merged) as archive:
        name = next(n for n in archive.namelist() if n.endswith("extra/notes.txt"))
        assert archive.read(name) == b"kept"
        for entry in archive.infolist():
            if "/weight_" in entry.filename:  # as torch.export.save aligns them
                archive.fp.seek(entry.header_offset + 26)
                sizes = archive.fp.read(4)
                assert (entry.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:],
                    "little")) % 64 == 0
    again = json.loads(run("inspect", merged, "--json").stdout)
    assert {"head.weight"} == {site["path"] for site in again["sites"] if site["role"] == "head"}


@pytest.mark.parametrize("method", ["lora", "deep-lora", "dora", "full", "none"])
def test_methods(method, run, rows, tmp_path):
    train(run, saved(tmp_path, program_of(Encoder())), rows, tmp_path / "run", f"adapter.method={method}")
    run("export", tmp_path / "run", "--to", "pt2", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(in_python(tmp_path / "merged.pt2", rows), predictions(run, tmp_path / "run", rows),
                               rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_its_type(dtype, run, rows, tmp_path):
    train(run, saved(tmp_path, program_of(Encoder().to(dtype))), rows, tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    state = torch.export.load(tmp_path / "merged.pt2").state_dict
    assert state["query.weight"].dtype == dtype and state["head.weight"].dtype == torch.float32


def test_a_tied_language_model(run, tmp_path):
    class Tied(Encoder):
        def __init__(self):
            super().__init__()
            self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
            self.lm_head.weight = self.embed.weight

        def forward(self, input_ids, attention_mask):
            return self.lm_head(self.states(input_ids, attention_mask))

    model = saved(tmp_path, program_of(Tied()))
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"input_ids": [5 + (i * k) % 50 for k in range(1, 8)]}) + "\n" for i
                             in range(1, 13)))
    config = tmp_path / "c.yaml"
    config.write_text(f"""model: {{path: {model}}}
data: {{task: causal-lm, train: {texts}, dev: {texts}}}
adapter: {{method: lora, rank: 2, targets: [all-linear, embedding]}}
train: {{steps: 6, lr: 0.02, batch_size: 4}}
""")
    run("finetune", config, "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    with zipfile.ZipFile(tmp_path / "merged.pt2") as archive:
        table = json.loads(archive.read(next(n for n in archive.namelist()
                                             if n.endswith("model_weights_config.json"))))["config"]
    paths = {entry["path_name"] for name, entry in table.items() if name in ("embed.weight", "lm_head.weight")}
    assert len(paths) == 1
    before, after = torch.export.load(model).state_dict, torch.export.load(tmp_path / "merged.pt2").state_dict
    assert not torch.equal(before["embed.weight"], after["embed.weight"])


def test_arguments_by_name_and_a_dict_of_results(run, rows, tmp_path):
    class Named(Encoder):
        def forward(self, *, keep, tokens, scale=None):
            states = self.states(tokens, keep)
            return {"parts": (states.mean(1), None), "hidden": states}

    ids, mask = sample()
    program = program_of(Named(), shapes={"tokens": FREE, "keep": FREE}, tokens=ids, keep=mask)
    model = saved(tmp_path, program)
    train(run, model, rows, tmp_path / "run", "model.inputs.input_ids=tokens", "model.inputs.attention_mask=keep",
          "model.output=hidden")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(predictions(run, tmp_path / "merged.pt2", rows), predictions(run, tmp_path / "run",
        rows), rtol=0, atol=1e-5)


def test_a_dict_argument(run, rows, tmp_path):
    class Packed(Encoder):
        def forward(self, batch):
            return self.states(batch["ids"], batch["mask"])

    ids, mask = sample()
    program = program_of(Packed(), {"ids": ids, "mask": mask}, shapes=({"ids": FREE, "mask": FREE},))
    train(run, saved(tmp_path, program), rows, tmp_path / "run", 'model.inputs.input_ids="batch.ids"',
          'model.inputs.attention_mask="batch.mask"')
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(predictions(run, tmp_path / "merged.pt2", rows), predictions(run, tmp_path / "run",
        rows), rtol=0, atol=1e-5)


def test_several_programs_in_one_file(run, rows, tmp_path):
    from torch.export.pt2_archive._package import package_pt2

    torch.manual_seed(1)
    first, second = program_of(Encoder()), program_of(Encoder())
    package_pt2(str(tmp_path / "two.pt2"), exported_programs={"first": first, "second": second})
    assert "which program? it holds first, second; name one" in run("inspect", tmp_path / "two.pt2", code=1).stderr
    assert "did you mean 'second'" in run("inspect", f"{tmp_path / 'two.pt2'}#secnd", code=1).stderr
    train(run, f"{tmp_path / 'two.pt2'}#second", rows, tmp_path / "run")
    run("evaluate", tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(predictions(run, f"{tmp_path / 'merged.pt2'}#second", rows),
                               predictions(run, tmp_path / "run", rows), rtol=0, atol=1e-5)


def test_a_native_family_is_taken_and_compared(run, tiny_program, tmp_path):
    model = tiny_program("bert", "encoder")
    found = json.loads(run("inspect", model, "--json").stdout)
    assert found["family"] == "bert" and found["backend"] == "native"
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"input_ids": [5 + i, 9, 11 + i], "label": "ab"[i % 2]}) + "\n" for i
                            in range(12)))
    run("finetune", "--model", model, "--train", data, "--dev", data, "--steps", "4", "--run", tmp_path / "run")
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(predictions(run, tmp_path / "merged.pt2", data), predictions(run, tmp_path / "run",
        data), rtol=0, atol=1e-5)


class Buffered(Encoder):
    """Two names of one weight, a buffer, and one that is no part of the state."""

    def __init__(self):
        super().__init__()
        self.again = self.value
        self.register_buffer("scale", torch.full((WIDTH,), 0.5))
        self.register_buffer("shift", torch.full((WIDTH,), 0.25), persistent=False)

    def forward(self, input_ids, attention_mask):
        return self.again(self.states(input_ids, attention_mask)) * self.scale + self.shift


def saved_bytes(value) -> bytes:
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def as_pytorch_28_wrote(program, path, target):
    """Weights and constants in a pickle each."""
    rewritten(path, target, lambda name, content: None if name.startswith(("data/weights/", "data/constants/"))
              else content)
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("model/data/weights/model.pt", saved_bytes(program.state_dict))
        archive.writestr("model/data/constants/model.pt", saved_bytes(program.constants))


def as_pytorch_27_wrote(program, path, target):
    """Files without a folder, under other names."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(target, "w") as after:
        held = {name.partition("/")[2]: before.read(name) for name in before.namelist()}
        after.writestr("version", "8.8")
        after.writestr("serialized_exported_program.json", held["models/model.json"])
        after.writestr("serialized_example_inputs.pt", held["data/sample_inputs/model.pt"])
        after.writestr("serialized_state_dict.pt", saved_bytes(program.state_dict))
        after.writestr("serialized_constants.pt", saved_bytes(program.constants))
        after.writestr("extra_files/notes.txt", "kept")


@pytest.mark.parametrize("write", [as_pytorch_28_wrote, as_pytorch_27_wrote])
def test_older_layouts_are_read_and_written_as_todays(write, run, rows, tmp_path):
    program = program_of(Buffered())
    path = saved(tmp_path, program, extra_files={"notes.txt": "kept"})
    write(program, path, tmp_path / "old.pt2")
    train(run, tmp_path / "old.pt2", rows, tmp_path / "run")
    train(run, path, rows, tmp_path / "today")
    ours = predictions(run, tmp_path / "run", rows)
    torch.testing.assert_close(ours, predictions(run, tmp_path / "today", rows), rtol=0, atol=1e-6)
    run("export", tmp_path / "run", "--output", tmp_path / "merged.pt2")
    torch.testing.assert_close(in_python(tmp_path / "merged.pt2", rows), ours, rtol=0, atol=1e-5)
    torch.testing.assert_close(predictions(run, tmp_path / "merged.pt2", rows), ours, rtol=0, atol=1e-5)
    files = {"notes.txt": ""}
    state = torch.export.load(tmp_path / "merged.pt2", extra_files=files).state_dict
    assert files["notes.txt"] == "kept" and state["again.weight"].data_ptr() == state["value.weight"].data_ptr()
    assert isinstance(state["fc.weight"], nn.Parameter) and not isinstance(state["scale"], nn.Parameter)


# ---- refused ----


def rewritten(source, target, change):
    """The zip with `change(name without its folder, content)` in place of each content; None leaves an entry out."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for entry in before.infolist():
            content = change(entry.filename.partition("/")[2], before.read(entry))
            if content is not None:
                after.writestr(entry.filename, content)
    return target


def json_changed(source, target, record, change):
    def edit(name, content):
        if name != record:
            return content
        value = json.loads(content)
        change(value)
        return json.dumps(value)

    return rewritten(source, target, edit)


class Branching(Encoder):
    def forward(self, input_ids, attention_mask):
        x = self.states(input_ids, attention_mask)
        return torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (x,))


class Counting(Encoder):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, input_ids, attention_mask):
        self.calls.add_(1)
        return self.states(input_ids, attention_mask)


class ChangesItsInput(Encoder):
    def forward(self, input_ids, attention_mask):
        attention_mask[:, :1].add_(1)
        return self.states(input_ids, attention_mask)


class Mapped(Encoder):
    def forward(self, input_ids, attention_mask):
        return torch.vmap(self.fc)(self.states(input_ids, attention_mask))


def fixed(folder, rows):
    return saved(folder, torch.export.export(Encoder().eval(), sample(rows=rows)))


def with_node(folder, target):
    def change(program):
        node = next(n for n in program["graph_module"]["graph"]["nodes"] if n["target"]
                    == "torch.ops.aten.relu.default")
        node["target"] = target

    return json_changed(saved(folder, program_of(Encoder())), folder / "changed.pt2", "models/model.json", change)


def with_table(folder, change):
    return json_changed(saved(folder, program_of(Encoder())), folder / "changed.pt2",
                        "data/weights/model_weights_config.json",
                        lambda table: change(table["config"]["fc.weight"]))


def old_layout(folder):
    with zipfile.ZipFile(folder / "old.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", json.dumps({"schema_version": {"major": 5, "minor": 1},
            "torch_version": "2.4.0"}))
        archive.writestr("serialized_state_dict.pt", b"x")
    return folder / "old.pt2"


class OwnTensor(torch.Tensor):
    """A class that a file's pickle would have to be run for."""


def pickled(folder, change):
    """The layout of PyTorch 2.8: one pickle of all weights, after `change`."""
    program = program_of(Encoder())
    state = change(dict(program.state_dict))

    def without_weights(name, content):
        return None if name.startswith("data/weights/") else content

    path = rewritten(saved(folder, program), folder / "cut.pt2", without_weights)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data/weights/model.pt", saved_bytes(state))
    return path


def of_own_class(state):
    return {**state, "fc.weight": state["fc.weight"].detach().as_subclass(OwnTensor)}


def cut_off(folder):
    path = pickled(folder, lambda state: state)
    return rewritten(path, folder / "short.pt2", lambda name, content: content[:len(content) // 2]
                     if name.endswith("weights/model.pt") else content)


def compiled(folder):
    with zipfile.ZipFile(folder / "compiled.pt2", "w") as archive:
        for name in ("archive_format", "archive_version", "data/aotinductor/model/model.so"):
            archive.writestr(f"m/{name}", "pt2" if name == "archive_format" else "0")
    return folder / "compiled.pt2"


def huge(entry):
    entry["tensor_meta"]["sizes"] = [{"as_int": 1 << 40}, {"as_int": 1 << 40}]


REFUSED = {
    "control flow": (lambda f: saved(f, program_of(Branching())), "cond"),
    "changes a buffer": (lambda f: saved(f, program_of(Counting())), "changes 'calls'"),
    "changes an input": (lambda f: saved(f, program_of(ChangesItsInput())), "changes 'attention_mask'"),
    "vmap": (lambda f: saved(f, program_of(Mapped())), "save program.run_decompositions() in its place"),
    "sizes baked in": (lambda f: fixed(f, 2), "sizes [2, 7], which were baked in"),
    "a batch of one": (lambda f: fixed(f, 1), "sizes [1, 7], which were baked in"),
    "another library": (lambda f: with_node(f, "torch.ops.mylib.relu.default"), "operator of library mylib"),
    "unknown operator": (lambda f: with_node(f, "torch.ops.aten.rellu.default"), "torch.ops.aten.rellu.default"),
    "unknown overload": (lambda f: with_node(f, "torch.ops.aten.relu.scalar"), "torch.ops.aten.relu.scalar"),
    "writes files": (lambda f: with_node(f, "torch.ops.aten.from_file.default"), "from_file"),
    "python": (lambda f: with_node(f, "os.system"), "os.system"),
    "pickled tensor": (lambda f: with_table(f, lambda entry: entry.update(use_pickle=True)), "nothing is unpickled"),
    "tensor beyond its file": (lambda f: with_table(f, huge), "the file is damaged"),
    "values of another file": (lambda f: with_table(f, lambda entry: entry.update(path_name="../x")),
                               "not in the file"),
    "PyTorch 2.4": (old_layout, "in form 5.1, written by PyTorch 2.4.0; expected form 8: save it again"),
    "a pickle with a class": (lambda f: pickled(f, of_own_class),
                              "its pickle asks for torch._tensor._rebuild_from_type_v2, which is no part of a plain "
                              "tensor (PyTorch 2.1"),
    "a pickle with a function": (lambda f: pickled(f, lambda state: {**state, "x": print}),
                                 "its pickle asks for __builtin__.print"),
    "a pickle of numbers": (lambda f: pickled(f, lambda state: {**state, "x": 5}), "'x' in its pickle is no tensor"),
    "a pickle without a tensor": (lambda f: pickled(f, lambda state: {k: v for k, v in state.items()
        if k != "fc.weight"}), "holds no parameter 'fc.weight'"),
    "a pickle that is cut off": (cut_off, "is truncated or damaged"),
    "AOTInductor": (compiled, "AOTInductor"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused_in_one_line(case, run, rows, tmp_path):
    make, reason = REFUSED[case]
    done = run("finetune", "--model", make(tmp_path), "--train", rows, "--dev", rows, "--steps", "2", "--run",
               tmp_path / "run", code=1)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and reason in lines[0] and "Exception" not in done.stderr, done.stderr


def test_texts_longer_than_the_program_takes(run, tmp_path):
    program = torch.export.export(Encoder().eval(), sample(),
                                  dynamic_shapes=({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim("t", min=2,
                                      max=12)},) * 2)
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"input_ids": [5 + i] * 20, "label": "ab"[i % 2]}) + "\n" for i in range(8)))
    done = run("finetune", "--model", saved(tmp_path, program), "--train", data, "--dev", data, "--steps", "2", "--run",
               tmp_path / "run", code=1)
    assert "to 12 in dimension 1" in done.stderr
