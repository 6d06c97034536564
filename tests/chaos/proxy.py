# SPDX-License-Identifier: Apache-2.0
"""proxy.py - a wire between a program and its server that can be cut, held up, slowed down and robbed.

    wire = Proxy(("127.0.0.1", 6379))        or the path of a socket
    wire.address                             where the program shall connect, host:port
    wire.retarget(...)                       the address leads to another server now; what is connected is cut
    wire.cut()                               every connection, at once
    wire.cut_after(UP, 100)                  each connection once 100 more bytes have passed that way
    wire.stall(DOWN), wire.resume()          nothing passes that way; all passes again, in order
    wire.slow(UP, 0.02)                      each piece waits so long
    wire.rob(DOWN)                           what comes that way is thrown away, until the connection is cut
    wire.hold_requests()                     what programs send on is kept ...
    wire.cut_late(0.5)                       ... their ends are cut, and only so much later the server gets it
    wire.counts                              what really happened

UP is from the program to the server, DOWN the other way.  All of it runs in a thread with a loop of its own; the methods
may be called from any other thread."""

import asyncio
import contextlib
import threading
from collections import Counter

UP, DOWN = "up", "down"


class Connection:
    """One connection of the program, and the one to the server that belongs to it."""

    def __init__(self):
        self.client = None         # writers
        self.server = None
        self.left = {UP: None, DOWN: None}  # bytes that may still pass before the cut
        self.robbed = {UP: False, DOWN: False}
        self.late = None           # bytes for the server while its requests are held back

    def cut(self):
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


class Proxy:
    def __init__(self, target):
        self.target = target
        self.connections = set()
        self.counts = Counter()
        self.pause = {UP: 0, DOWN: 0}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._call(self._open())

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def _open(self):
        self.open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self.open[UP].set()
        self.open[DOWN].set()
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]

    def close(self):
        async def close():
            self.server.close()
            for connection in list(self.connections):
                connection.cut()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        if self.loop.is_running():
            self._call(close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    # -- bytes

    async def _serve(self, client_reader, client_writer):
        connection = Connection()
        connection.client = client_writer
        try:
            if isinstance(self.target, tuple):
                server_reader, connection.server = await asyncio.open_connection(*self.target)
            else:
                server_reader, connection.server = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            client_writer.transport.abort()
            return
        self.connections.add(connection)
        ways = [asyncio.ensure_future(self._pass(connection, UP, client_reader, connection.server)),
                asyncio.ensure_future(self._pass(connection, DOWN, server_reader, client_writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.connections.discard(connection)
            client_writer.transport.abort()
            if connection.late is None:
                # What was passed on shall arrive, as it does when a program ends.
                connection.server.close()

    async def _pass(self, connection, way, reader, writer):
        with contextlib.suppress(OSError):
            while True:
                data = await reader.read(65536)
                if not data:
                    return
                if self.pause[way]:
                    await asyncio.sleep(self.pause[way])
                await self.open[way].wait()
                if connection.robbed[way]:
                    self.counts["robbed bytes"] += len(data)
                    continue
                if way == UP and connection.late is not None:
                    connection.late += data
                    continue
                left = connection.left[way]
                if left is not None and len(data) > left:
                    writer.write(data[:left])
                    await writer.drain()
                    self.counts["cut " + way] += 1
                    return
                if left is not None:
                    connection.left[way] -= len(data)
                writer.write(data)
                await writer.drain()

    # -- faults

    def retarget(self, target):
        self.target = target
        self.cut()

    def cut(self):
        async def cut():
            for connection in list(self.connections):
                connection.cut()
                self.counts["cut"] += 1

        self._call(cut())

    def cut_after(self, way, n_bytes):
        async def arm():
            for connection in self.connections:
                connection.left[way] = n_bytes

        self._call(arm())

    def stall(self, way):
        async def stall():
            self.open[way].clear()

        self._call(stall())

    def resume(self):
        async def resume():
            self.open[UP].set()
            self.open[DOWN].set()

        self._call(resume())

    def slow(self, way, seconds):
        self.pause[way] = seconds

    def rob(self, way):
        async def rob():
            for connection in self.connections:
                connection.robbed[way] = True

        self._call(rob())

    def hold_requests(self):
        """From now on what the connected programs send is kept back, for cut_late()."""
        async def hold():
            for connection in self.connections:
                connection.late = connection.late or b""

        self._call(hold())

    def has_held(self):
        return any(connection.late for connection in list(self.connections))

    def cut_late(self, seconds):
        """Cut the programs' ends; each server gets what was held back @seconds later.  Returns when it has."""
        async def cut_late():
            held = [connection for connection in self.connections if connection.late is not None]
            for connection in held:
                connection.client.transport.abort()
            await asyncio.sleep(seconds)
            for connection in held:
                with contextlib.suppress(OSError):
                    connection.server.write(connection.late)
                    await connection.server.drain()
                    connection.server.close()
                if connection.late:
                    self.counts["late bytes"] += len(connection.late)

        self._call(cut_late())
