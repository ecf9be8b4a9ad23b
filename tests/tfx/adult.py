"""Adult through tf.Transform on Beam's direct runner: raw tf.Examples, transformed ones, and the transform's graph."""

import gzip
import pathlib

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tfx_bsl.public import tfxio

from tests.tfx.conftest import LABEL
from xdeepint_ext.data.loaders.adult import COLUMNS, NUMERIC

TEXTS = tuple(name for name in COLUMNS if name not in (*NUMERIC, "income"))
SCALED, BINNED = ("age", "education_num", "hours_per_week"), ("capital_gain", "fnlwgt")
RAW_SPEC = {
    **{name: tf.io.FixedLenFeature([], tf.float32) for name in NUMERIC},
    **{name: tf.io.VarLenFeature(tf.string) for name in TEXTS},  # "?" is a missing value
    "income": tf.io.FixedLenFeature([], tf.string),
}


def preprocessing_fn(raw):
    """What a user of tf.Transform writes."""
    found = {f"{name}_z": tft.scale_to_z_score(raw[name]) for name in SCALED}
    found |= {f"{name}_bin": tft.bucketize(raw[name], 8) for name in BINNED}
    for name in TEXTS:
        dense = tf.sparse.to_dense(tf.SparseTensor(raw[name].indices, raw[name].values, [raw[name].dense_shape[0], 1]))
        found[f"{name}_id"] = tft.compute_and_apply_vocabulary(tf.squeeze(dense, 1), num_oov_buckets=1)
    found[LABEL] = tf.cast(tf.strings.regex_full_match(raw["income"], r">50K\.?"), tf.int64)
    return found


def examples(file: pathlib.Path, most: int) -> list[bytes]:
    """The first rows of a raw file as serialized tf.Examples; a missing text is an absent feature."""
    found = []
    for line in gzip.decompress(file.read_bytes()).decode().splitlines():
        values = dict(zip(COLUMNS, map(str.strip, line.split(",")), strict=False))
        if len(values) != len(COLUMNS):
            continue
        example = tf.train.Example()
        for name, value in values.items():
            if name in NUMERIC:
                example.features.feature[name].float_list.value.append(float(value))
            elif value != "?":
                example.features.feature[name].bytes_list.value.append(value.encode())
        found.append(example.SerializeToString())
        if len(found) == most:
            break
    return found


def transform(train: list[bytes], evaluation: list[bytes], folder: pathlib.Path) -> None:
    """Leaves `train-*.gz` and `eval-*.gz` of transformed examples, and the graph in `graph/`."""
    metadata = tft.DatasetMetadata.from_feature_spec(RAW_SPEC)
    source = tfxio.TFExampleBeamRecord(physical_format="inmem", telemetry_descriptors=["test"], schema=metadata.schema)
    options = beam.options.pipeline_options.PipelineOptions(["--runner=DirectRunner"])
    with beam.Pipeline(options=options) as pipeline, tft_beam.Context(temp_dir=str(folder / "scratch")):
        raw = {
            name: pipeline | f"{name} rows" >> beam.Create(rows) | f"{name} batches" >> source.BeamSource()
            for name, rows in (("train", train), ("eval", evaluation))
        }
        (transformed, out), graph = (raw["train"], source.TensorAdapterConfig()) | tft_beam.AnalyzeAndTransformDataset(
            preprocessing_fn
        )
        of_eval, _ = ((raw["eval"], source.TensorAdapterConfig()), graph) | tft_beam.TransformDataset()
        for name, dataset in (("train", transformed), ("eval", of_eval)):
            coder = tft.coders.ExampleProtoCoder(out.schema)
            file = str(folder / name)
            _ = (
                dataset
                | f"{name} encoded" >> beam.Map(coder.encode)
                | f"{name} written" >> beam.io.WriteToTFRecord(file, file_name_suffix=".gz")
            )
        output = folder / "graph"
        _ = graph | tft_beam.WriteTransformFn(str(output))
        raw_metadata = str(output / tft.TFTransformOutput.RAW_METADATA_DIR)  # as TFX's Transform writes it
        _ = metadata | tft_beam.WriteMetadata(raw_metadata, pipeline)
