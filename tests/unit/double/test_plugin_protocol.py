"""A plugin under the double: its start and stop, its calls, its notifications."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pyln.client import RpcError

from tests.double.process import ROOT, LightningdDouble
from tests.unit.double.conftest import Make, refusal


def killed(double: LightningdDouble, regex: str) -> str:
    return double.wait_for_log(rf"plugin-sample\.py: Killing plugin: {regex}")


def test_init_gets_options_and_configuration(make: Make) -> None:
    options = {"sample-text": "given", "sample-many": ["a", "b"], "sample-flag": None}
    double = make({**options, "proxy": "127.0.0.1:9050", "always-use-proxy": "true"})
    seen = double.rpc.call("sample-seen")
    assert seen["options"] == {
        "sample-text": "given",
        "sample-number": 7,
        "sample-switch": True,
        "sample-many": ["a", "b"],
        "sample-flag": True,
    }
    configuration = seen["configuration"]
    assert configuration["proxy"] == {"type": "ipv4", "address": "127.0.0.1", "port": 9050}
    assert configuration["always_use_proxy"] is True
    assert configuration["startup"] is True
    assert configuration["lightning-dir"] == seen["cwd"] == str(double.socket.parent)
    assert configuration["rpc-file"] == "lightning-rpc"
    assert seen["env"] == "1"
    double.wait_for_log(r"Z UNUSUAL plugin-sample\.py: hello from init")


def test_init_omits_options_without_a_value(double: LightningdDouble) -> None:
    options = double.rpc.call("sample-seen")["options"]
    assert options["sample-text"] == "a default"
    assert not {"sample-many", "sample-flag", "sample-disable"} & options.keys()
    configuration = double.rpc.call("sample-seen")["configuration"]
    assert not {"proxy", "always_use_proxy"} & configuration.keys()


def test_listconfigs_shows_plugin_options(make: Make) -> None:
    double = make({"sample-number": "16", "sample-many": ["x"]})
    configs = double.rpc.listconfigs()["configs"]
    assert configs["sample-number"]["value_int"] == 16
    assert configs["sample-number"]["plugin"] == str(double.plugin)
    assert configs["sample-many"]["values_str"] == ["x"]
    assert configs["sample-flag"]["set"] is False
    assert configs["always-use-proxy"] == {"value_bool": False, "source": "default"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unknown-option": "x"}, "--unknown-option: unrecognized option"),
        ({"sample-number": "many"}, "'many' is not a number"),
    ],
)
def test_a_bad_command_line_ends_the_double(make: Make, options: dict[str, str], message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        make(options)


def test_a_plugin_can_disable_itself_at_init(make: Make) -> None:
    double = make({"sample-disable": "not today"})
    killed(double, "disabled itself at init: not today")
    assert double.rpc.plugin_list()["plugins"] == []
    assert refusal(double, "sample-seen") == {"code": -32601, "message": "Unknown command 'sample-seen'"}


def test_a_plugin_can_disable_itself_in_its_manifest(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    reply = '{"jsonrpc": "2.0", "id": request["id"], "result": {"disable": "too old"}}'
    # The plugin runs until it is killed: the double may miss the reply of one that ends at once.
    body = (
        "import json, sys\n"
        "request = json.loads(input())\n"
        f"print(json.dumps({reply}), flush=True)\n"
        "sys.stdin.read()\n"
    )
    path.write_text(f"#!/usr/bin/env python3\n{body}")
    double = make(plugin=path)
    killed(double, "disabled itself: too old")


def test_results_and_errors_are_passed_on_unchanged(double: LightningdDouble) -> None:
    reply = double.rpc.call("sample-echo", ["ünïcode \U0001f984"])
    assert reply["text"] == "ünïcode \U0001f984"
    assert re.fullmatch(r".+:sample-echo#1/cln:sample-echo#\d+", reply["id"])
    failed = refusal(double, "sample-fail")
    assert (failed["code"], failed["message"]) == (-42, "no luck")
    crashed = refusal(double, "sample-crash")
    assert "a bug" in crashed["message"]
    assert "Traceback" in crashed["traceback"]


def test_messages_of_a_command_reach_a_caller_that_enabled_them(double: LightningdDouble) -> None:
    messages: list[str] = []
    rpc = double.rpc
    with rpc.notify(lambda message, **_: messages.append(message)):
        rpc.call("sample-echo")
    assert messages == ["working on it"]


def test_a_filter_selects_fields_of_the_result(double: LightningdDouble) -> None:
    rpc = double.rpc
    with rpc.reply_filter({"id": True}):
        assert rpc.getinfo().keys() == {"id"}


def test_help_lists_commands_with_their_parameters(double: LightningdDouble) -> None:
    commands = {entry["command"] for entry in double.rpc.help()["help"]}
    assert {"sample-echo [text]", "dev-block "} <= commands
    assert double.rpc.help("datastore")["help"] == [
        {"command": "datastore key [string] [hex] [mode] [generation]"}
    ]
    with pytest.raises(RpcError, match="Unknown command nope"):
        double.rpc.help("nope")


def test_a_hanging_request_delays_no_other_on_its_connection(double: LightningdDouble) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(double.socket))
        for number, method in enumerate(["sample-hang", "getinfo", "sample-echo"]):
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": {}}
            client.sendall(json.dumps(request).encode())
        received = b""
        while received.count(b"\n\n") < 2:
            received += client.recv(65536)
        answers = [json.loads(part) for part in received.split(b"\n\n") if part]
        assert {answer["id"] for answer in answers} == {1, 2}
        double.kill_plugin()
        assert json.loads(client.recv(65536)) == {
            "jsonrpc": "2.0",
            "id": 0,
            "error": {"code": -4, "message": "Plugin terminated before replying to RPC call."},
        }


def test_split_requests_are_answered_and_nonsense_is_refused(double: LightningdDouble) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(double.socket))
        for piece in ('{"jsonrpc":"2.0","id":"x{}","meth', 'od":"sample-echo","params":["}ü"]}'):
            client.sendall(piece.encode())
        assert json.loads(client.recv(65536))["result"]["text"] == "}ü"
        client.sendall(b'{"id":1}{"jsonrpc":"2.0","id":2,"method":"x"} nonsense')
        answers = b""
        while data := client.recv(65536):
            answers += data
    errors = [json.loads(part)["error"]["code"] for part in answers.split(b"\n\n") if part]
    assert errors == [-32600] * 3  # no jsonrpc, no params, no JSON


def test_a_plugin_can_be_stopped_and_started_with_other_options(make: Make) -> None:
    double = make({"sample-text": "kept", "sample-many": ["a"]})
    before = double.plugin_pid
    stopped = double.rpc.plugin_stop("sample.py")
    assert stopped == {"command": "stop", "result": "Successfully stopped sample.py."}
    double.wait_for_log("plugin-sample.py: goodbye")
    killed(double, "exited during normal operation")
    with pytest.raises(RpcError, match="Unknown command"):
        double.rpc.call("sample-echo")
    changed = {"sample-number": 9, "sample-switch": False, "sample-many": "b", "sample-flag": True}
    started = double.rpc.plugin_start(str(double.plugin), **changed)
    entry = {"name": str(double.plugin), "active": True, "dynamic": True}
    assert started == {"command": "start", "plugins": [entry]}
    assert double.plugin_pid != before
    seen = double.rpc.call("sample-seen")
    assert seen["configuration"]["startup"] is False
    assert seen["options"] == {
        "sample-text": "kept",
        "sample-number": 9,
        "sample-switch": False,
        "sample-many": ["a", "b"],
        "sample-flag": True,
    }


@pytest.mark.parametrize(
    ("command", "params", "code", "message"),
    [
        ("start", {"plugin": "/nowhere.py"}, -32602, "is not executable"),
        ("start", {"plugin": "PLUGIN"}, -32602, "already registered"),
        ("stop", {"plugin": "other.py"}, -32602, "Could not find plugin other.py"),
        ("dance", {}, -32602, "Unknown subcommand 'dance'"),
    ],
)
def test_the_plugin_command_refuses_bad_parameters(
    double: LightningdDouble, command: str, params: dict[str, str], code: int, message: str
) -> None:
    given = {k: v.replace("PLUGIN", str(double.plugin)) for k, v in params.items()}
    error = refusal(double, "plugin", {"subcommand": command, **given})
    assert error["code"] == code
    assert message in error["message"]


def test_start_with_a_wrong_option_fails(double: LightningdDouble) -> None:
    double.rpc.plugin_stop("sample.py")
    for options in ({"sample-number": "x"}, {"sample-other": "1"}, {"sample-disable": "tired"}):
        start = {"subcommand": "start", "plugin": str(double.plugin), **options}
        assert refusal(double, "plugin", start)["code"] == -3
    assert double.rpc.plugin_list()["plugins"] == []


def test_a_killed_plugin_is_noticed(double: LightningdDouble) -> None:
    double.kill_plugin()
    assert double.rpc.plugin_list()["plugins"] == []
    double.rpc.plugin_start(str(double.plugin))
    assert double.rpc.call("sample-echo")["text"] == "nothing"


def test_a_plugin_that_prints_is_killed(double: LightningdDouble) -> None:
    assert refusal(double, "sample-print")["code"] == -4
    killed(double, "Invalid token in JSON input")


def test_subscribers_are_notified_of_blocks_and_payments(double: LightningdDouble) -> None:
    block = double.rpc.call("dev-block")
    line = double.wait_for_log("plugin-sample.py: block ")
    assert json.loads(line.split("block ")[1]) == block
    assert double.rpc.getinfo()["blockheight"] == block["height"]
    invoice = double.rpc.invoice("any", "a label", "x")
    paid = double.rpc.call("dev-pay", {"bolt11": invoice["bolt11"], "amount_msat": 5})
    line = double.wait_for_log("plugin-sample.py: paid ")
    event = {"label": "a label", "preimage": paid["payment_preimage"], "msat": 5}
    assert json.loads(line.split("paid ")[1]) == event


def test_dev_fail_and_dev_delay_change_the_next_calls(double: LightningdDouble) -> None:
    double.rpc.call("dev-fail", ["getinfo", 500, "not today", 2])
    for _ in range(2):
        with pytest.raises(RpcError, match="not today"):
            double.rpc.getinfo()
    double.rpc.call("dev-delay", ["getinfo", 0.3])
    began = time.monotonic()
    late = threading.Thread(target=double.rpc.getinfo)
    late.start()
    double.rpc.call("sample-echo")
    assert late.is_alive()
    late.join()
    assert time.monotonic() - began >= 0.3


def test_dev_answer_replaces_the_next_answers(double: LightningdDouble) -> None:
    given = {"method": "getinfo", "text": '{"id":"ID","result":"odd"}\n\n', "times": 2}
    double.rpc.call("dev-answer", given)
    assert [double.rpc.getinfo() for _ in range(2)] == ["odd", "odd"]
    double.rpc.call("dev-answer", ["getinfo"])
    with pytest.raises(RpcError, match="Connection to RPC server lost"):
        double.rpc.getinfo()
    assert double.rpc.getinfo()["id"]


def test_the_stop_command_and_sigterm_end_the_double(double: LightningdDouble) -> None:
    assert double.rpc.stop() == {"result": "Shutdown complete"}
    assert double.wait() == 0
    double.wait_for_log("plugin-sample.py: goodbye")
    double.start()
    assert double.stop() == 0


def test_the_double_stops_cleanly_with_a_pending_request(double: LightningdDouble) -> None:
    position = double.mark()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(double.socket))
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"sample-hang","params":{}}')
        double.wait_for_log("plugin-sample.py: hanging")
        assert double.stop() == 0
    assert not [line for line in double.log_lines()[position:] if "Traceback" in line]


def test_a_plugin_that_ignores_shutdown_is_killed(make: Make, sample: Path) -> None:
    sample.write_text(sample.read_text().replace("    sys.exit(0)", "    pass"))
    double = make({"dev-shutdown-timeout": "0.1"})
    double.stop()
    double.wait_for_log("sample.py: failed to self-terminate in time, killing.")


def test_the_plugin_does_not_outlive_a_killed_double(double: LightningdDouble) -> None:
    """The plugin holds the double's stderr open, so the log ends only when both have ended."""
    double.kill()
    double.start()
    assert double.rpc.call("sample-echo")["text"] == "nothing"


def test_the_double_does_not_outlive_its_reader(tmp_path: Path, sample: Path) -> None:
    arguments = [f"--lightning-dir={tmp_path}", f"--plugin={sample}"]
    command = [sys.executable, "-m", "tests.double", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        while "Server started" not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.wait(timeout=60) is not None
