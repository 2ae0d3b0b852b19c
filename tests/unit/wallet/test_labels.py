import pytest

from nwc.wallet import labels
from nwc.wallet.methods.lookup_invoice import may_see
from tests.unit.in_process import ALICE, connection

OWN = connection(ALICE)
REQUEST_ID = "ab" * 32


def test_the_label_of_a_request_is_read_again() -> None:
    label = labels.request_label(OWN.id, REQUEST_ID)
    assert label == f"nwc:{ALICE}:{REQUEST_ID}"
    assert labels.parse_request_label(label) == (ALICE, REQUEST_ID)


@pytest.mark.parametrize(
    "label",
    [
        "",
        "shop",
        f"nwc:{ALICE}:by hand",
        f"nwc:{ALICE}:{REQUEST_ID}0",
        f"nwc:{ALICE}:{REQUEST_ID}\n",
        f"nwc:{ALICE}:{REQUEST_ID.upper()}",
        f"x:nwc:{ALICE}:{REQUEST_ID}",
        labels.template_label(0),
    ],
)
def test_other_labels_are_not_those_of_requests(label: str) -> None:
    assert labels.parse_request_label(label) is None


def test_the_owner_of_a_label_may_see_the_invoice() -> None:
    own = f"nwc:{OWN.id}"
    for label in (f"{own}:{'0' * 64}", f"{own}:by hand", f"{own}:", f"{own}::"):
        assert labels.owner_of(label) == OWN.id
        assert may_see(OWN, {"label": label})
    for label in ("", "nwc", "nwc:", own, f"NWC:{OWN.id}:a", f"x:{own}:a", f"nwc::{OWN.id}"):
        assert labels.owner_of(label) != OWN.id
        assert not may_see(OWN, {"label": label})
