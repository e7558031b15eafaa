"""Targets: read strictly, told for the PBX that is looked at."""

import pytest

from events.settings import ConfigurationError
from projections.settings import ProjectionsSettings
from projections.targets import Target, targets_of, told


def test_a_pbxs_own_target_goes_before_that_of_every_pbx() -> None:
    targets = targets_of("missed<=10, geneva:missed <= 3,average_handling_s<=240, inferred_share<=0.05, answered>=200")
    assert targets["geneva", "missed"] == Target(3, is_ceiling=True)
    everywhere = {
        "average_handling_s": {"at_most": 240},
        "inferred_share": {"at_most": 0.05},
        "answered": {"at_least": 200},
    }
    assert told(targets, "geneva") == {**everywhere, "missed": {"at_most": 3}}
    assert told(targets, "zurich") == told(targets, None) == {**everywhere, "missed": {"at_most": 10}}
    assert targets_of("") == targets_of(" , ") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("missed", "a target is"),
        ("mised<=3", "figures: calls"),
        ("missed<3", "a target is"),
        ("missed<=many", "the bound is a number"),
        ("missed<=nan", "the bound is a number"),
        ("missed<=-1", "the bound is a number"),
        ("missed<=1,missed<=2", "keep one"),
    ],
)
def test_what_is_no_target_is_refused_with_what_to_write(text: str, said: str) -> None:
    settings = ProjectionsSettings(projections_targets=text)
    with pytest.raises(ConfigurationError, match=f"PROJECTIONS_TARGETS: .*{said}"):
        _ = settings.targets
