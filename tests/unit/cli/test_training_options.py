"""Training settings as a person types them."""

import pytest
from restmcts.domain.runs.training_settings import TrainingSettings
from restmcts.errors import InputError
from restmcts_cli.arguments.training_options import parse_training

SETTINGS = TrainingSettings(num_epochs=3, seed=7)


def test_options_stand_in_place_of_settings() -> None:
    parsed = parse_training(SETTINGS, ["lora-rank=8", "precision=bfloat16", "packing=true", "num_steps=null"])
    assert (parsed.lora_rank, parsed.precision, parsed.packing, parsed.num_epochs, parsed.seed) == (
        8,
        "bfloat16",
        True,
        3,
        7,
    )
    assert parse_training(SETTINGS, None) == SETTINGS


@pytest.mark.parametrize("option", ["lora_rnk=8", "lora_rank", "lora_rank=much", "precision=float8", "lora_rank=0"])
def test_bad_options_say_what_is_wrong(option: str) -> None:
    with pytest.raises(InputError, match=r"training|name=value"):
        parse_training(SETTINGS, [option])
