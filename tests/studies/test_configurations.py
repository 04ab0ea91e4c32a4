"""The committed configurations are taken by the JSON schema of their kind."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from study.configs import registry
from study.test_schema import schema_of

from c3po_adaptive.study.kinds import kind_of
from c3po_adaptive.study.study_config import read_yaml

STUDIES = Path(__file__).parents[2] / "studies"
CONFIGURATIONS = sorted(path for path in STUDIES.glob("*/*.yaml") if not path.stem.endswith("protocol"))


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_committed_configuration_is_taken(path):
    raw = read_yaml(path)
    Draft202012Validator(schema_of("--kind", kind_of(raw, registry()).kind)).validate(raw)
