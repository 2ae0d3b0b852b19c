from tests.cases.rpc_socket import *  # noqa: F403
