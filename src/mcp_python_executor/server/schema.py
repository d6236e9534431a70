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
    """The JSON schema that `model`, which does not hold itself, is published with: no title that only repeats a key,
    no reference, which some clients do not follow and others follow for each item of a list anew.
    """
    schema = model.model_json_schema(schema_generator=_Lean)
    return _plain(schema, schema.pop("$defs", {}))


def _plain(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_plain(item, definitions) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    entries = cast("dict[str, Any]", value)
    if "$ref" in entries:  # what is said beside it is said of this place, and counts
        entries = definitions[entries["$ref"].rpartition("/")[2]] | {
            key: entries[key] for key in entries if key != "$ref"
        }
    return {
        key: _plain(item, definitions) for key, item in entries.items() if key != "title" or not isinstance(item, str)
    }
