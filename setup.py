"""Builds and installs xdeepint-ext; the settings of the development tools are in pyproject.toml."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "xdeepint_ext/__init__.py").read_text(), re.MULTILINE).group(1)

REQUIRED = [
    "absl-py",
    "numpy",
    "pandas",
    "pyyaml",
    "tensorboard",
    # Never tensorflow-cpu: the packages below require the name tensorflow, and both land in one folder.
    "tensorflow>=2.18,<2.22",
    # Newer releases need a protobuf that TensorFlow 2.18 and 2.19 refuse; utils/metadata.py says so.
    "tensorflow-metadata>=1.17",
    # Newer 0.5 releases cap TensorFlow below 2.16, so pip chooses 0.5.3; it imports through utils/tf_ranking.py.
    "tensorflow-ranking>=0.5.3,<0.6",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "tensorflow-serving-api>=2.18,<2.22",
    "tf-keras>=2.18,<2.22",
]

PLOTS = ["matplotlib"]
ANN = ["faiss-cpu"]
QA = ["safetensors>=0.4", "tokenizers>=0.20"]

EXTRAS = {
    "gpu": ["tensorflow[and-cuda]>=2.18,<2.22"],
    "beam": ["apache-beam"],
    # The tfx package itself cannot be installed beside TensorFlow 2.18 or newer.
    "tfx": ["tensorflow-transform>=1.21"],
    "ann": ANN,
    "qa": QA,
    "plots": PLOTS,
    "dev": [
        *ANN,
        *PLOTS,
        *QA,
        "build",
        "hypothesis",
        "mypy",
        "pre-commit",
        "pytest>=8",
        "pytest-xdist",
        "ruff>=0.9",
        "scikit-learn",
        # The reference of RoBERTa's test; version 5 has no TensorFlow models.
        "transformers>=4.57,<5",
        "types-PyYAML",
    ],
}

setuptools.setup(
    name="xdeepint-ext",
    version=VERSION,
    description="xDeepInt and its neighbours for TensorFlow: layers to subclass, experiments to run, models to serve",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The xdeepint_ext authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE", "NOTICE", "CITATION.cff"],
    keywords="recommender ranking ctr xdeepint feature-interaction tensorflow keras tfrecord serving",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=setuptools.find_packages(include=["xdeepint_ext", "xdeepint_ext.*"]),
    package_data={
        "xdeepint_ext": ["py.typed", "experiments/flagfiles/**/*.cfg", "experiments/flagfiles/**/*.flags"],
    },
    install_requires=REQUIRED,
    extras_require=EXTRAS,
)
