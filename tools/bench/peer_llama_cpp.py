"""llama.cpp as a peer to measure against."""

import json
import os
import sys
import time

from peer_venv import Venv

# llama.cpp's numbers for file types.
FILE_TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}


class Peer:
    name = "llama-cpp-python"

    def __init__(self, cache):
        self.cache = cache
        self.venv = Venv(cache, self.name, " (builds for about ten minutes)")

    def _run(self, *arguments):
        return self.venv.run(__file__, *arguments)

    def version(self):
        return self._run("version")

    def convert(self, gguf, file_type):
        """The model in another type; made once. Quantized sources go through
        bf16, so that every type starts from the same weights."""
        target = self.cache / f"{gguf.stem}-{file_type}.gguf"
        if not target.exists():
            source = gguf if file_type == "BF16" else self.convert(gguf, "BF16")
            print(f"converting to {target.name}", file=sys.stderr)
            partial = target.with_suffix(".partial")
            self._run("convert", source, partial, file_type)
            partial.rename(target)
        return target

    def measure(self, gguf, prompt, gen, threads):
        return self._run("measure", gguf, prompt, gen, threads)


def convert(llama_cpp, source, target, file_type):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[file_type]
    params.allow_requantize = True
    params.nthread = os.cpu_count()
    status = llama_cpp.llama_model_quantize(source.encode(), target.encode(),
                                            params)
    if status:
        raise SystemExit(f"llama_model_quantize returned {status}")
    return status


def measure(llama_cpp, gguf, prompt, gen, threads):
    llm = llama_cpp.Llama(model_path=gguf, n_ctx=prompt + gen + 64,
                          n_batch=prompt, n_ubatch=prompt, n_threads=threads,
                          n_threads_batch=threads, verbose=False)
    vocab = llm.n_vocab()
    tokens = [(i * 7919 + 17) % vocab for i in range(prompt)]

    def run():
        llm.reset()
        start = time.perf_counter()
        llm.eval(tokens)
        middle = time.perf_counter()
        for _ in range(gen):
            llm.eval([llm.sample(temp=0)])
        end = time.perf_counter()
        return {"prefill_tps": prompt / (middle - start),
                "decode_tps": gen / (end - middle)}

    # Reads the file into memory and sizes the buffers.
    llm.eval(tokens[:32])
    return run()


def main():
    import llama_cpp
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "version":
        result = llama_cpp.__version__
    elif command == "convert":
        result = convert(llama_cpp, *arguments)
    elif command == "measure":
        result = measure(llama_cpp, arguments[0], *map(int, arguments[1:]))
    else:
        raise SystemExit(f"unknown command '{command}'")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
