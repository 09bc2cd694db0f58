"""Bodies that are stuck in a call of their own, really, and what frees each of them: ``token.on_stop(...)``."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import websocket
import websockets.sync.client
import websockets.sync.server
import websockets.utils
from helpers import Gate

from threadkit import Lifecycle, StopToken

pytestmark = pytest.mark.integration

SOON = 1.0
"""Seconds that a stop may take here. It takes milliseconds; a body that nobody frees would take STOP_TIMEOUT."""
STOP_TIMEOUT = 8.0

Body = Callable[[StopToken, Gate], None]
BODIES: dict[str, Body] = {}


def body(func: Body) -> Body:
    """Remember a body. It opens the gate just before it is stuck."""
    BODIES[func.__name__] = func
    return func


def hang_up(sock: socket.socket) -> Callable[[], None]:
    return lambda: sock.shutdown(socket.SHUT_RDWR)


@body
def recv(running: StopToken, stuck: Gate) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, running.on_stop(hang_up(ours)):
        stuck.open()
        assert ours.recv(1) == b""


@body
def recv_tcp(running: StopToken, stuck: Gate) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as ours,
        running.on_stop(hang_up(ours)),
    ):
        stuck.open()
        assert ours.recv(1) == b""


@body
def recv_udp(running: StopToken, stuck: Gate) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as theirs:
        ours.bind(("127.0.0.1", 0))  # connected to nobody, it cannot be shut down; a datagram wakes it
        with running.on_stop(lambda: theirs.sendto(b"", ours.getsockname())):
            stuck.open()
            assert ours.recv(1) == b""


@body
def accept_tcp(running: StopToken, stuck: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, running.on_stop(hang_up(listener)):
        stuck.open()
        with contextlib.suppress(OSError):  # "Invalid argument": it listens no more
            listener.accept()


@body
def accept_unix(running: StopToken, stuck: Gate) -> None:
    with socket.socket(socket.AF_UNIX) as listener, running.on_stop(hang_up(listener)):
        listener.bind("")  # a name that Linux chooses, and no file
        listener.listen()
        stuck.open()
        with contextlib.suppress(OSError):
            listener.accept()


@body
def select_(running: StopToken, stuck: Gate) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, running.on_stop(hang_up(ours)):
        stuck.open()
        assert select.select([ours], [], [])[0] == [ours]


@body
def pipe(running: StopToken, stuck: Gate) -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader, running.on_stop(lambda: os.close(theirs)):  # noqa: PTH123 - it is no path
        stuck.open()
        assert reader.read() == b""


@body
def queue_get(running: StopToken, stuck: Gate) -> None:
    items: queue.Queue[object] = queue.Queue()
    with running.on_stop(lambda: items.put(None)):
        stuck.open()
        assert items.get() is None


@body
def queue_shutdown(running: StopToken, stuck: Gate) -> None:
    items: queue.Queue[object] = queue.Queue()
    with running.on_stop(items.shutdown), pytest.raises(queue.ShutDown):
        stuck.open()
        items.get()


@body
def event_wait(running: StopToken, stuck: Gate) -> None:
    event = threading.Event()
    with running.on_stop(event.set):
        stuck.open()
        event.wait()


@body
def subprocess_wait(running: StopToken, stuck: Gate) -> None:
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as child, running.on_stop(child.terminate):
        stuck.open()
        child.wait()


@body
def subprocess_output(running: StopToken, stuck: Gate) -> None:
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        with running.on_stop(child.terminate):
            stuck.open()
            assert list(child.stdout) == []


@body
def serve_forever(running: StopToken, stuck: Gate) -> None:
    with websockets.sync.server.serve(print, "127.0.0.1", 0) as server, running.on_stop(server.shutdown):
        stuck.open()
        server.serve_forever()


@pytest.mark.parametrize("name", BODIES)
def test_a_stuck_body_is_freed(name: str) -> None:
    """A thread that is stuck in a call of its own ends as soon as a lifecycle stops, by its hook."""
    if name == "queue_shutdown" and not hasattr(queue.Queue, "shutdown"):
        pytest.skip("Queue.shutdown() came with Python 3.13")
    stuck = Gate()
    with Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:
        lc.thread(name)(lambda running: BODIES[name](running, stuck))
        stuck.pass_through()
        time.sleep(0.05)  # from the gate into the call
    assert lc.report is not None
    assert lc.report.ok, lc.report
    assert lc.report.seconds < SOON


@pytest.mark.skipif(sys.platform != "linux", reason="tells what Linux does")
def test_a_closed_socket_wakes_nobody() -> None:
    """What close() alone does, and why the page says shutdown(): the thread that reads the socket reads on."""
    ours, theirs = socket.socketpair()
    stuck, freed = Gate(), Gate()
    with Lifecycle(stop_timeout=0.3) as lc:

        @lc.thread
        def reader(running: StopToken) -> None:
            with running.on_stop(ours.close):
                stuck.open()
                ours.recv(1)
            freed.open()

        stuck.pass_through()
        time.sleep(0.05)
    assert lc.report is not None
    assert [part.name for part in lc.report.stuck] == ["reader"]
    assert "ours.recv(1)" in lc.report.stuck[0].stacks["reader"]
    theirs.close()  # which does
    freed.pass_through()


def test_all_are_freed_at_once_whatever_one_hook_does(caplog: pytest.LogCaptureFixture) -> None:
    """Of many stuck bodies each is freed by its own hook, though one hook hangs, one raises and one exits."""
    hangs, let_go, logged = Gate(), threading.Event(), threading.Semaphore(0)
    caplog.handler.addFilter(lambda _: not logged.release())
    gates = {name: Gate() for name in BODIES if name != "queue_shutdown"}
    with Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:

        @lc.thread
        def unlucky(running: StopToken) -> None:
            running.on_stop(lambda: (hangs.open(), let_go.wait()))
            running.on_stop(lambda: 1 / 0)
            running.on_stop(sys.exit)
            hangs.pass_through()
            assert all(logged.acquire(timeout=STOP_TIMEOUT) for _ in range(2))

        for name, gate in gates.items():
            lc.thread(name)(lambda running, name=name, gate=gate: BODIES[name](running, gate))
        for gate in gates.values():
            gate.pass_through()
        time.sleep(0.1)
    let_go.set()
    assert lc.report is not None
    assert lc.report.ok, lc.report
    assert lc.report.seconds < SOON
    errors = [record.exc_info[0] for record in caplog.records if record.levelno == logging.ERROR]
    assert sorted(error.__name__ for error in errors) == ["SystemExit", "ZeroDivisionError"]


@pytest.fixture
def echo() -> Iterator[str]:
    """Serve websockets, and return the address; the server is a managed thread itself."""

    def repeat(connection: websockets.sync.server.ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(repeat, "127.0.0.1", 0) as server, Lifecycle("server") as lc:

        @lc.thread
        def serve(running: StopToken) -> None:
            with running.on_stop(server.shutdown):
                server.serve_forever()

        host, port = server.socket.getsockname()
        yield f"ws://{host}:{port}"


def farewell(client: websocket.WebSocketApp) -> None:
    """End run_forever(). Its own close() would close the socket under it, and then it may sleep for ten seconds."""
    client.keep_running = False
    sock = client.sock  # which run_forever() takes away when it ends, this very moment perhaps
    if sock and sock.connected:
        sock.send("", websocket.ABNF.OPCODE_CLOSE)
        sock.abort()


def hang_up_too(client: websocket.WebSocketApp, error: Exception) -> None:
    """Close the socket where the server has closed the connection, which run_forever() forgets."""
    sock = client.sock
    if sock:
        sock.shutdown()


def test_a_websocket_client_is_freed(echo: str) -> None:
    """A websocket client that is stuck in run_forever() ends by its hook, twenty times of twenty."""
    for _ in range(20):
        heard: list[str] = []
        answered = Gate()

        def on_message(client: websocket.WebSocketApp, message: str, heard=heard, answered=answered) -> None:
            heard.append(message)
            answered.open()

        with Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:

            @lc.thread
            def listen(running: StopToken, on_message=on_message) -> None:
                client = websocket.WebSocketApp(
                    echo, on_open=lambda client: client.send("hello"), on_message=on_message, on_error=hang_up_too
                )
                with running.on_stop(lambda: farewell(client)):
                    client.run_forever()

            answered.pass_through()
        assert lc.report is not None
        assert lc.report.ok, lc.report
        assert lc.report.seconds < SOON
        assert heard == ["hello"]


def test_a_websocket_client_of_the_other_kind_is_freed(echo: str) -> None:
    """A client of the library websockets that waits for messages ends by its own close(), twenty times of twenty."""
    for _ in range(20):
        answered = Gate()
        with Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:

            @lc.thread
            def listen(running: StopToken, answered=answered) -> None:
                with websockets.sync.client.connect(echo, close_timeout=1) as client, running.on_stop(client.close):
                    client.send("hello")
                    for _ in client:
                        answered.open()

            answered.pass_through()
        assert lc.report is not None
        assert lc.report.ok, lc.report
        assert lc.report.seconds < SOON


def test_a_stop_while_a_websocket_connects_is_seen(echo: str) -> None:
    """A websocket client that is told to stop before it is connected hangs up as soon as it is."""
    starting = Gate()
    with Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:

        @lc.thread
        def listen(running: StopToken) -> None:
            client = websocket.WebSocketApp(
                echo, on_open=lambda client: running.is_set() and farewell(client), on_error=hang_up_too
            )
            with running.on_stop(lambda: farewell(client)):
                starting.open()
                running.wait()
                client.run_forever()

        starting.pass_through()
    assert lc.report is not None
    assert lc.report.ok, lc.report
    assert lc.report.seconds < SOON


def test_a_websocket_client_of_a_deaf_server_is_freed() -> None:
    """A websocket client whose server never answers its farewell ends all the same."""
    opened = Gate()
    with socket.create_server(("127.0.0.1", 0)) as listener, Lifecycle(stop_timeout=STOP_TIMEOUT) as lc:

        @lc.thread
        def deaf(running: StopToken) -> None:
            with listener.accept()[0] as connection:
                head = connection.recv(65536)
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                connection.sendall(accepted(head))
                while connection.recv(65536):
                    pass

        @lc.thread
        def listen(running: StopToken) -> None:
            host, port = listener.getsockname()
            client = websocket.WebSocketApp(f"ws://{host}:{port}", on_open=opened.open, on_error=hang_up_too)
            with running.on_stop(lambda: farewell(client)):
                client.run_forever()

        opened.pass_through()
    assert lc.report is not None
    assert lc.report.ok, lc.report
    assert lc.report.seconds < SOON


def accepted(head: bytes) -> bytes:
    """Return a server's answer to a client's handshake."""
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {websockets.utils.accept_key(key[1].decode())}\r\n\r\n"
    ).encode()
