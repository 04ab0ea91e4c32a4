"""The JSON schema of configurations takes what is taken, refuses what is refused, and says what each field means."""

import json
from functools import cache

import pytest
from jsonschema import Draft202012Validator
from study.configs import KINDS, registry
from typer.testing import CliRunner

from c3po_adaptive.cli import app
from c3po_adaptive.study.kinds import kinds


@cache
def schema_of(*options):
    plugins = [part for file in KINDS for part in ("--plugin", str(file))]
    shown = CliRunner().invoke(app, ["study", "schema", *plugins, *options])
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


@pytest.mark.parametrize("kind", kinds(registry()))
def test_every_field_is_described(kind):
    schema = schema_of("--kind", kind)
    Draft202012Validator.check_schema(schema)
    records = [schema, *schema.get("$defs", {}).values()]
    assert all(record["description"] and "Attributes" not in record["description"] for record in records)
    fields = [(record["title"], name, f) for record in records for name, f in record["properties"].items()]
    silent = [f"{record}.{name}" for record, name, field in fields if not field.get("description")]
    assert silent == []


def test_of_those_that_name_no_kind():
    assert schema_of() == schema_of("--kind", "comparison")


@pytest.mark.parametrize(
    "wrong",
    [
        {"modle": "OLMoE"},
        {"loss": "leed"},
        {"batch_size": 0},
        {"kind": "speed"},
        {"arms": {"ngd": {"optimiser": "ngd"}}},
    ],
    ids=str,
)
def test_what_is_refused_is_marked(wrong):
    assert not Draft202012Validator(schema_of()).is_valid(wrong)
