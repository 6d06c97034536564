# SPDX-License-Identifier: Apache-2.0
"""A real log of messages between people, where its file is at hand: CLOUTD_COLLEGEMSG names a text file with the header
`src dst time`, Unix seconds, in order.  Not in the repository; without it there is no test here."""

import os

from policies import KARMA

FILE = os.environ.get("CLOUTD_COLLEGEMSG")

if FILE:
    def messages(world):
        with open(FILE) as lines:
            assert next(lines).split() == ["src", "dst", "time"]
            for line in lines:
                source, target, seconds = line.split()
                yield world.record({"type": "mention", "actor": source, "target": target}, int(seconds) * 1000)

    def test_months_of_real_messages_are_scored_as_the_oracle_says(new_world):
        world = new_world(policy=KARMA)
        world.send(*messages(world))
        books = world.run_until_end()
        world.check_books(books)
        world.check()
        # The same in pieces: windows slide between the runs.
        pieces = new_world(policy=KARMA)
        records = list(messages(pieces))
        for begin in range(0, len(records), len(records) // 5 + 1):
            pieces.send(*records[begin:begin + len(records) // 5 + 1])
            pieces.run_until_end()
            pieces.check()
