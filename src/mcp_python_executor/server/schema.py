"""JSON schemas of what tools take and give, as short as they can be said: a model reads them before its first call."""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class _Lean(GenerateJsonSchema):
    """An optional key is one that may be absent, never null, and an absent one is no default to tell."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") in (None, ""):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema that `model` is published with, without the titles that only repeat its keys."""
    return _untitled(model.model_json_schema(schema_generator=_Lean))


def _untitled(value: Any) -> Any:
    if isinstance(value, dict):
        entries = cast("dict[str, Any]", value).items()
        return {key: _untitled(item) for key, item in entries if key != "title" or not isinstance(item, str)}
    if isinstance(value, list):
        return [_untitled(item) for item in cast("list[Any]", value)]
    return value
