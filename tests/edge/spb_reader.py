"""Reads Sparkplug B payloads with protobuf itself, from a description of the message, not from our encoder."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.unknown_fields import UnknownFieldSet

F = descriptor_pb2.FieldDescriptorProto
PAYLOAD = [("timestamp", 1, F.TYPE_UINT64), ("metrics", 2, F.TYPE_MESSAGE), ("seq", 3, F.TYPE_UINT64)]
METRIC = [
    ("name", 1, F.TYPE_STRING),
    ("alias", 2, F.TYPE_UINT64),
    ("timestamp", 3, F.TYPE_UINT64),
    ("datatype", 4, F.TYPE_UINT32),
    ("is_historical", 5, F.TYPE_BOOL),
    ("is_transient", 6, F.TYPE_BOOL),
    ("is_null", 7, F.TYPE_BOOL),
    ("int_value", 10, F.TYPE_UINT32),
    ("long_value", 11, F.TYPE_UINT64),
    ("float_value", 12, F.TYPE_FLOAT),
    ("double_value", 13, F.TYPE_DOUBLE),
    ("boolean_value", 14, F.TYPE_BOOL),
    ("string_value", 15, F.TYPE_STRING),
]
VALUE_OF = {3: "int_value", 4: "long_value", 10: "double_value", 11: "boolean_value", 12: "string_value"}


def _payload_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="spb_for_tests.proto", package="spb", syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for message, fields in ((payload, PAYLOAD), (metric, METRIC)):
        for name, number, kind in fields:
            label = F.LABEL_REPEATED if name == "metrics" else F.LABEL_OPTIONAL
            added = message.field.add(name=name, number=number, type=kind, label=label)
            if name == "metrics":
                added.type_name = ".spb.Payload.Metric"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("spb.Payload"))


Payload = _payload_class()


def read(data: bytes) -> Any:
    """The payload; an unknown field is an error, since everything we send is known here."""
    payload = Payload.FromString(data)
    for part in (payload, *payload.metrics):
        assert not len(UnknownFieldSet(part)), "a field, or a field's type, that Sparkplug B does not have"
    return payload


def values(payload: Any) -> dict[str, Any]:
    return {m.name: getattr(m, VALUE_OF[m.datatype]) for m in payload.metrics}
