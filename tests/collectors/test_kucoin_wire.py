"""KuCoin's numbers: what the venue may write, as what a table can hold."""

import pytest

from collectors.exchanges.kucoin import wire


@pytest.mark.parametrize(
    "said,held",
    [
        ("0.0001", "0.0001"), ("-1.5", "-1.5"), ("1E-4", "0.0001"), ("2e3", "2000"), ("00", None), ("01.5", None),
        ("1e99", None), ("NaN", None), ("", None), ("1_000", None),
    ],
)  # fmt: skip
def test_a_figure_is_written_out_or_is_none(said: str, held: str | None) -> None:
    assert wire.figure(said) == held
