"""tf.Example, the message, without TensorFlow: the same bytes, from the same description of its fields.

The pool is one of its own, because TensorFlow puts its description into the one that all share.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

LISTS = {"bytes_list": ("BytesList", Field.TYPE_BYTES), "float_list": ("FloatList", Field.TYPE_FLOAT)}
LISTS["int64_list"] = ("Int64List", Field.TYPE_INT64)


def _described() -> descriptor_pb2.FileDescriptorProto:
    """tensorflow/core/example/example.proto and feature.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for name, kind in LISTS.values():
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=Field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field, (name, _)) in enumerate(LISTS.items(), start=1):
        feature.field.add(
            name=field, number=number, type=Field.TYPE_MESSAGE, type_name=f".tensorflow.{name}", oneof_index=0
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING)
    entry.field.add(name="value", number=2, type=Field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    features.field.add(
        name="feature",
        number=1,
        type=Field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=Field.LABEL_REPEATED,
    )
    example = file.message_type.add(name="Example")
    example.field.add(name="features", number=1, type=Field.TYPE_MESSAGE, type_name=".tensorflow.Features")
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_described())
Example: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("tensorflow.Example"))
