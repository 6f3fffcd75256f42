"""Installs into an image what one extra of `restmcts` names, at the pinned versions, and takes away
what no service runs.

`python install.py EXTRA`, one call a layer: images with the same extras in the same order share
    these layers, and a change of code
makes none of them anew. Without an extra, it only takes away.
"""

import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# libraries under a second and third name, sources, tests, other databases, colours for program
# text, mechanics and probability
NEVER_RUN = (
    "Crypto/PublicKey",
    "Crypto/SelfTest",
    "google/api",
    "google/cloud",
    "google/gapic",
    "google/logging",
    "google/longrunning",
    "google/type",
    "mpmath/tests",
    "numpy/**/tests",
    "opentelemetry/semconv/_incubating/*/[a-np-z]*",
    "opentelemetry/semconv/_incubating/*/__pycache__/[a-np-z]*",
    "pyarrow/*.pxi",
    "pyarrow/*.pyx",
    "pyarrow/_azurefs*",
    "pyarrow/_dataset_orc*",
    "pyarrow/_dataset_parquet_encryption*",
    "pyarrow/_flight*",
    "pyarrow/_gcsfs*",
    "pyarrow/_hdfs*",
    "pyarrow/_orc*",
    "pyarrow/_parquet_encryption*",
    "pyarrow/_pyarrow_cpp_tests*",
    "pyarrow/_s3fs*",
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "pyarrow/libarrow_python_parquet_encryption*",
    "pyarrow/libarrow_python*.so",
    "pyarrow/libarrow_python*.so.*.*",
    "pyarrow/libarrow_s3*",
    "pyarrow/src",
    "pyarrow/tests",
    "pygments/lexers/[a-z]*",
    "pygments/lexers/__pycache__",
    "sqlalchemy/dialects/[mo]*",
    "sqlalchemy/testing",
    "sympy/**/benchmarks",
    "sympy/**/tests",
    "sympy/crypto",
    "sympy/diffgeom",
    "sympy/holonomic",
    "sympy/liealgebras",
    "sympy/parsing/autolev",
    "sympy/physics/biomechanics",
    "sympy/physics/continuum_mechanics",
    "sympy/physics/control",
    "sympy/physics/mechanics",
    "sympy/physics/optics",
    "sympy/stats",
    "wcwidth/_wcwidth_c*",
    "wcwidth/table_grapheme_overrides/_known_*",
    "wcwidth/table_grapheme_overrides/__pycache__/_known_*",
)

# what must still be whole afterwards, where it is installed: it is what the trimmed libraries are
# used for
STILL_RUN = (
    "celery.bin.celery",
    "minio.minioadmin",
    "numpy",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "pyarrow.parquet",
    "sqlalchemy.dialects.postgresql",
    "sympy",
)


def install(extra: str) -> None:
    """Install the dependencies of the distribution itself and those of the extra."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"][extra]]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-c", "constraints.txt", *requirements], check=True)


def trim() -> None:
    """Remove what is never run from where packages are installed."""
    spec = find_spec("pydantic")
    assert spec is not None and spec.origin is not None
    packages = Path(spec.origin).parents[1]
    for path in [path for pattern in NEVER_RUN for path in packages.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for name in STILL_RUN:
        if find_spec(name.partition(".")[0]) is not None:
            import_module(name)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        install(name)
    trim()
