"""The cases of crashes in the middle of a payment, on a line of three real nodes."""

from tests.cases.paying import *  # noqa: F403
from tests.cases.payment_crash import *  # noqa: F403
from tests.cases.payment_crash import Case, check_end, check_still_held, each_end, each_that_succeeds
from tests.integration.faulty_line import *  # noqa: F403
from tests.integration.payee import RealPayee
from tests.integration.real_node import RealNode


@each_end
@each_that_succeeds
def test_a_held_payment_survives_a_kill_of_lightningd(
    node: RealNode, held: Case, payee: RealPayee, failed: bool
) -> None:
    node.kill_node()
    node.start_node()
    check_still_held(held)
    payee.release(fail=failed)
    check_end(held, failed=failed)
