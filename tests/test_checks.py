"""Parameters that say by their types what they may be."""

import pickle
import re
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import pytest
from pydantic import AfterValidator, Field, InstanceOf, NonNegativeInt, PositiveFloat, PositiveInt

from c3po_adaptive.checks import Checked, Share, check_number, in_words, schema_of
from c3po_adaptive.errors import SettingError


class Part:
    def __str__(self):
        return "a part"


def halved(number):
    if number % 2:
        raise ValueError("half of it has to be whole")
    return number


@dataclass(frozen=True)
class Base(Checked):
    lr: Annotated[float, Field(ge=0, description="the paper uses 1e-2")] = 1e-2
    share: Share = 1
    name: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Mine(Base):
    lr: float = 0.1  # what the base says of it holds here, too
    k: PositiveInt = 3
    n: NonNegativeInt | None = None
    scale: PositiveFloat | Literal["median"] = "median"
    step: Literal["adam", "sgd"] = "adam"
    layers: Literal["all"] | tuple[int, ...] = "all"
    of: InstanceOf[Part] | None = None
    even: Annotated[int, AfterValidator(halved)] = 2
    other: Annotated[Part, "which JSON does not know"] | None = None
    free: int = 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("k", np.int64(2)),
        ("n", 0),
        ("n", None),
        ("scale", 2),
        ("scale", np.float32(0.5)),
        ("share", 0),
        ("layers", (1, 2)),
        ("of", Part()),
        ("free", "whatever a class without more to say takes"),
    ],
    ids=str,
)
def test_what_is_allowed_stays_as_it_was_given(field, value):
    """A number of another type would be another run."""
    kept = getattr(replace(Mine(), **{field: value}), field)
    assert kept is value


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("k", 0, "mine.k to be a whole number >= 1, got 0; give such a number."),
        ("k", 2.0, "a whole number >= 1, got 2.0"),
        ("k", True, "a whole number >= 1, got True"),
        ("n", -1, "mine.n to be a whole number >= 0, or None, got -1; give such a value."),
        ("lr", -1, "mine.lr to be a finite number >= 0, got -1; the paper uses 1e-2."),
        ("lr", float("inf"), "a finite number >= 0, got inf"),
        ("share", 1.5, "mine.share to be a finite number >= 0 and <= 1, got 1.5"),
        ("share", "1", "a finite number >= 0 and <= 1, got '1'"),
        ("scale", 0, "mine.scale to be a finite number > 0, or 'median', got 0; give such a value."),
        ("scale", "medain", "or 'median', got 'medain'; did you mean 'median'? There is median."),
        ("step", "adm", "mine.step to be one of 'adam', 'sgd', got 'adm'; did you mean 'adam'? There are adam, sgd."),
        ("step", None, "mine.step to be one of 'adam', 'sgd', got None; give such a value."),
        ("even", 3, "mine.even to be a whole number, got 3; half of it has to be whole."),
        ("other", 3, "mine.other to be of the type test_checks.Part, got 3; give such a value."),
        ("layers", (1, "2"), "mine.layers to be 'all', or a list of whole numbers, got (1, '2')"),
        (
            "of",
            "part",
            "mine.of to be a Part, got 'part'; names are looked up where mine itself is given by name: {\"name\"",
        ),
    ],
)
def test_anything_else_is_refused_in_a_sentence(field, value, said):
    with pytest.raises(SettingError, match=re.escape(said)):
        replace(Mine(), **{field: value})


def test_bounds_that_depend_on_another_field():
    check_number(Mine(lr=2), "lr", at_most=2)
    with pytest.raises(SettingError, match=r"mine\.lr to be a finite number <= 1, got 2; below the other\."):
        check_number(Mine(lr=2), "lr", at_most=1, hint="below the other")


def test_a_type_in_words():
    assert in_words(schema_of(PositiveFloat | Literal["a", "b"] | None)) == "a finite number > 0, or 'a', 'b'"
    assert in_words(schema_of(Annotated[str, Field(examples=["x", "y"])])) == "among x, y"


def test_it_is_pickled_as_any_dataclass():
    assert pickle.loads(pickle.dumps(Mine(k=5))) == Mine(k=5)
