"""OpenVINO GenAI as a peer to measure against; it reads GGUF files itself."""

import json
import sys

from peer_venv import Venv


class Peer:
    name = "openvino-genai"

    def __init__(self, cache):
        self.venv = Venv(cache, self.name)

    def version(self):
        return self.venv.run(__file__, "version")

    def measure(self, gguf, prompt, gen, threads):
        return self.venv.run(__file__, "measure", gguf, prompt, gen, threads)


def measure(gguf, prompt, gen, threads):
    import numpy
    import openvino
    import openvino_genai
    pipeline = openvino_genai.LLMPipeline(
        gguf, "CPU", INFERENCE_NUM_THREADS=threads, PERFORMANCE_HINT="LATENCY")

    def run(length, count):
        ids = numpy.array([[(i * 7919 + 17) % 150000 for i in range(length)]],
                          dtype=numpy.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = count
        config.ignore_eos = True
        config.do_sample = False
        return pipeline.generate(inputs, config).perf_metrics

    # Reads the file into memory and compiles for the shapes.
    run(32, 4)
    metrics = run(prompt, gen)
    return {"prefill_tps": prompt / (metrics.get_ttft().mean / 1e3),
            "decode_tps": 1e3 / metrics.get_tpot().mean}


def main():
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "version":
        import openvino_genai
        result = openvino_genai.__version__
    elif command == "measure":
        result = measure(arguments[0], *map(int, arguments[1:]))
    else:
        raise SystemExit(f"unknown command '{command}'")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
