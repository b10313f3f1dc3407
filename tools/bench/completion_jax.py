"""The paper's deep matrix completion in plain JAX, dense and jitted in float64, as one would write it: the thing
compared with.

Reads start factors (last.safetensors of a run with steps: 0) and the problem (problem.safetensors) of `deeplora
complete`, so that both programs do the same iterations. Prints one JSON object. Needs jax; started by
completion_vs_jax.py.
"""
import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def read_safetensors(path: Path) -> dict:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    kinds = {"F64": np.float64, "F32": np.float32, "I32": np.int32, "I64": np.int64}
    out = {}
    for name, info in header.items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            out[name] = np.frombuffer(data[8 + size + begin : 8 + size + end],
                                      kinds[info["dtype"]]).reshape(info["shape"])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--lr", type=float, required=True, help="on the mean over all entries")
    parser.add_argument("--gamma", type=float, default=0.01)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=0,
                        help="run until this recovery error instead, at most --iterations")
    arguments = parser.parse_args()

    problem = read_safetensors(arguments.run / "problem.safetensors")
    factors = read_safetensors(arguments.run / "last.safetensors")
    names = sorted(factors, key=lambda n: (n == "U", n != "V", n))  # input to output
    target = jnp.asarray(problem["u"] @ problem["v"].T)
    mask = np.zeros(target.shape)
    mask[problem["row"], problem["col"]] = 1
    mask = jnp.asarray(mask)
    params = [jnp.asarray(factors[n]) for n in names]
    scales = [arguments.gamma if n in "UV" else 1.0 for n in names]

    def product(params):
        out = params[0]
        for p in params[1:]:
            out = p @ out
        return out

    def loss(params):
        return 0.5 * jnp.mean((mask * (product(params) - target)) ** 2)

    @jax.jit
    def step(params):
        return [p - arguments.lr * s * g for p, s, g in zip(params, scales, jax.grad(loss)(params))]

    @jax.jit
    def recovery_error(params):
        return 0.5 * jnp.sum(((1 - mask) * (product(params) - target)) ** 2) / jnp.sum(1 - mask)

    jax.block_until_ready(step(params))  # compiled before any clock starts
    recovery_error(params).block_until_ready()
    if arguments.tolerance > 0:
        began, seconds, done = time.perf_counter(), 0.0, 0
        while done < arguments.iterations:
            began = time.perf_counter()
            for _ in range(100):
                params = step(params)
            jax.block_until_ready(params)
            seconds += time.perf_counter() - began
            done += 100
            error = float(recovery_error(params))
            if error <= arguments.tolerance:
                break
        print(json.dumps({"iterations": done, "seconds": seconds, "recovery_error": error}))
        return
    times = []
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        for _ in range(arguments.iterations):
            params = step(params)
        jax.block_until_ready(params)
        times.append((time.perf_counter() - began) / arguments.iterations)
    print(json.dumps({"seconds_per_iteration": times, "recovery_error": float(recovery_error(params))}))


if __name__ == "__main__":
    main()
