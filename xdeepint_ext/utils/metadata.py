"""The one door to TensorFlow Metadata's messages, whose newest release does not say which protobuf it needs."""

__all__ = ["schema_pb2", "statistics_pb2"]

try:
    from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
except Exception as error:
    # Its class differs between protobuf's releases, of which the older ones have no such check.
    if type(error).__name__ not in ("VersionError", "TypeError"):
        raise
    raise ImportError(
        "The installed tensorflow-metadata needs a newer protobuf than the installed TensorFlow allows (2.18 and 2.19 "
        "want protobuf < 6). Install its older release: pip install 'tensorflow-metadata<1.18'"
    ) from error
