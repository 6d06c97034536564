# SPDX-License-Identifier: Apache-2.0
"""policies.py - the points tables and windows that the tests use, as the oracle and the daemon's files want them."""

import json

import xxhash

from oracle import Duplicates, Policy, Rule, Tier, Window

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000

KRED_TIERS = [Tier(None, 10), Tier(10_000, 25), Tier(100_000, 50)]
KRED = Policy("kred", [
    Rule("retweet", ["retweet"], KRED_TIERS),
    Rule("reply", ["reply"], KRED_TIERS),
    Rule("follow", ["follow"], [Tier(None, 1)]),
])
KARMA = Policy("karma", [Rule(name, [name], [Tier(None, 1)])
                         for name in ("retweet", "reply", "mention", "like", "follow")])
# Points that fall as well as rise, several types in a rule, nothing for the many: what KRED does not have.
MIXED = Policy("mixed", [
    Rule("praise", ["like", "love"], [Tier(None, 0), Tier(50, 3), Tier(1000, 7)]),
    Rule("blame", ["downvote"], [Tier(None, -2)]),
    Rule("share", ["retweet"], [Tier(None, 10), Tier(10_000, 25)]),
])

WINDOWS = [Window("24h", DAY, HOUR), Window("30d", 30 * DAY, DAY), Window("90d", 90 * DAY, DAY)]


def with_points(policy, points):
    """The same rules, other points, given in cell order."""
    points = iter(points)
    return Policy(policy.name, [rule._replace(tiers=[tier._replace(points=next(points)) for tier in rule.tiers])
                                for rule in policy.rules], policy.duplicates)


def counting_once(policy, same, within):
    return Policy(policy.name, policy.rules, Duplicates(same, within))


def policy_yaml(policy):
    lines = [f"name: {policy.name}", "rules:"]
    for rule in policy.rules:
        lines += [f"  - name: {rule.name}", f"    types: [{', '.join(rule.types)}]", "    tiers:"]
        for tier in rule.tiers:
            over = "" if tier.followers_over is None else f"followers_over: {tier.followers_over}, "
            lines.append(f"      - {{{over}points: {tier.points}}}")
    if policy.duplicates is not None:
        lines.append("fair: {duplicates: {same: %s, within: %d}}" % policy.duplicates)
    return "\n".join(lines) + "\n"


def published(policy, windows, headline):
    """(version, JSON) as they must stand in Redis."""
    def text(**members):
        return json.dumps(members, separators=(",", ":"), ensure_ascii=False)

    def bound(tier):
        return {} if tier.followers_over is None else {"followers_over": tier.followers_over}

    rest = {
        "rules": [{"name": rule.name, "types": rule.types,
                   "tiers": [{**bound(tier), "points": tier.points} for tier in rule.tiers]} for rule in policy.rules],
        "cells": [{"rule": rule.name, "tier": i, "followers_over": tier.followers_over, "points": tier.points}
                  for rule in policy.rules for i, tier in enumerate(rule.tiers)],
        "windows": [{"name": window.name, "length_ms": window.length_ms, "bucket_ms": window.bucket_ms}
                    for window in windows],
        "headline": headline,
    }
    if policy.duplicates is not None:
        rest["fair"] = {"duplicates": policy.duplicates._asdict()}
    version = xxhash.xxh3_128_hexdigest(text(name=policy.name, **rest).encode())[:16]
    return version, text(name=policy.name, version=version, **rest)
