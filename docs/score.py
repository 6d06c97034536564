#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""score.py [ACCOUNT...] - the score of these accounts, or of all, from the counts and the points table that Redis shows anybody.

One line each: account, score as computed here, score that Redis shows.  REDIS_URL says where Redis is (default
redis://127.0.0.1:6379; or unix:///path), CLOUT_PREFIX what its keys begin with (default clout:)."""
import json, os, sys, redis

r = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
prefix = os.environ.get("CLOUT_PREFIX", "clout:").encode()
everybody = (key[len(prefix) + 2:] for key in r.scan_iter(match=prefix + b"a:*", count=1000))
points, wrong = {}, 0
for account in [os.fsencode(name) for name in sys.argv[1:]] or everybody:
    cells, version, shown = r.hmget(prefix + b"a:" + account, "cells", "pol", "score")
    if version is None:
        continue  # never scored, or left
    if version not in points:
        points[version] = [cell["points"] for cell in json.loads(r.get(prefix + b"policy:" + version))["cells"]]
    score = sum(int(n) * worth for n, worth in zip(cells.split(), points[version]))
    print(account.decode(), score, int(shown), sep="\t")
    wrong += score != int(shown)
sys.exit(wrong > 0)
