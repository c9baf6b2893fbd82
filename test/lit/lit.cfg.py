"""lit's configuration: every .mlir file below this folder is a test."""

import os

import lit.formats

config.name = "retort"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = os.path.join(config.retort_build, "test", "lit")
config.environment["PATH"] = os.pathsep.join(
    [config.retort_bin, config.llvm_tools, config.environment["PATH"]])
config.environment["XDG_CACHE_HOME"] = os.path.join(config.test_exec_root, "cache")
config.substitutions.append(("%source", config.retort_source))
shared = os.environ.get("RETORT_SHARED",
                        os.path.join(config.retort_source, "..", "shared"))
if os.path.isdir(shared):
    config.available_features.add("shared")
config.substitutions.append(("%shared", shared))
