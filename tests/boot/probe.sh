#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# probe.sh - inside the booted system, as a unit: does the installed package do what an operator expects of it?
#
# Prints "ok - WHAT" or "FAILED - WHAT" for each check into /probe/out, then powers the machine off.  Whatever a check
# needs is done here too: a Redis with a password, events whose scores awk adds up.  The broker runs outside, in this
# network; /probe/brokers has its address.
cd /probe || exit 1
exec >out 2>&1
trap 'journalctl -b --no-pager >journal; touch finished; systemctl --no-block poweroff' EXIT

ok() { echo "ok - $*"; }
failed() { echo "FAILED - $*"; }
# check WHAT COMMAND...: one check.
check() {
    local what=$1
    shift
    if "$@" >said 2>&1; then ok "$what"; else failed "$what: $(tail -n 1 said)"; fi
}
# until_true COMMAND...: what never comes costs a minute and a half; a busy machine has time enough.
until_true() {
    local end=$((SECONDS + 90))
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.2
    done
}
fails() { ! "$@"; }
redis() { redis-cli --no-auth-warning -a s3cret "$@"; }
restarts() { show NRestarts "$1"; }
restarted() { [ "$(restarts "$1")" -gt "$2" ]; }
show() { systemctl show --value -p "$1" "cloutd@$2"; }
# shellcheck disable=SC2053 # it is a pattern
says() { [[ $(show "$1" "$2") == $3 ]]; }
http() { curl -fsS -m 5 "http://127.0.0.1:$1"; }
metric() { http "$1/metrics" | grep -qx -- "$2"; }
# alerted INSTANCE PRIORITY ID PATTERN: an entry with this message id, of this priority or a higher one?
alerted() { journalctl -b --no-pager -u "cloutd@$1" -p "$2" -o cat "MESSAGE_ID=$3" | grep -qE -- "$4"; }
in_journal() { journalctl -b --no-pager -u "cloutd@$1" | grep -qE -- "$2"; }

# ---- events, and what they are worth by policies/kred.yaml ----

follow=1 # so many points

produce() { clout-gen -b "$broker" --topic live --replay "$1" "${@:2}" 2>/dev/null; }

# "ACCOUNT POINTS" of the files $@, sorted.
worth() {
    cat "$@" | awk '
        function field(name) { return match($0, "\"" name "\":\"?[^\",}]*") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) : "" }
        function text(name) { v = field(name); sub(/^"/, "", v); return v }
        {
            type = text("type"); f = text("actor_followers") + 0
            if (text("actor") == text("target")) next
            if (type == "follow") p = '"$follow"'
            else if (type == "retweet" || type == "reply") p = f > 100000 ? 50 : f > 10000 ? 25 : 10
            else next
            sum[text("target")] += p
        }
        END { for (account in sum) print account, sum[account] }' | sort
}
# The same as Redis has it, under the prefix $1.
scores() {
    redis --scan --pattern "$1a:*" | sort >accounts
    sed "s/^/HGET /; s/$/ all/" accounts | redis >values
    paste -d ' ' <(sed "s/^$1a://" accounts) values | sort
}
right() {
    worth "${@:2}" >want
    scores "$1" >have
    [ -s want ] && cmp -s want have
}
all_right() {
    until_true right "$@" && return 0
    echo "$(wc -l <want) accounts wanted, $(wc -l <have) found, $(comm -13 want have | wc -l) differ"
    return 1
}

# ---- what was installed ----

check "nothing runs before somebody says so" fails systemctl -q is-active 'cloutd@*'
check "the credentials are root's alone" test "$(stat -c '%U %a' /etc/cloutd/credentials)" = "root 700"
check "every configuration file is a conffile" \
    test "$(dpkg-query -W -f '${Conffiles}' cloutd | grep -c /etc/cloutd/)" = "$(find /etc/cloutd -type f | wc -l)"
check "the shipped configuration is valid" cloutd --config /etc/cloutd/main.yaml --check-config

# ---- one edit, one command ----

redis-cli config set requirepass s3cret >/dev/null
redis-cli --no-auth-warning -a s3cret acl setuser second on '>s3cret' '~*' '&*' +@all >/dev/null
broker=$(cat brokers)
for n in 1 2 3; do
    clout-gen --stdout --seed $n --events 5000 --accounts 500 --self 2% >events$n 2>/dev/null
done
sed -i "s/brokers: 127.0.0.1:9092/brokers: $broker/; s/topic: interactions/topic: live/" /etc/cloutd/main.yaml
printf s3cret >/etc/cloutd/credentials/redis-password
printf n0-body-kn0ws-this >/etc/cloutd/credentials/optout-salt
check "systemctl enable --now cloutd@main" systemctl -q enable --now cloutd@main
check "it is active, and said so itself" says "ActiveState" main active
check "it gets ready, with the password that is a credential" until_true http 9464/readyz
check "systemd rates it 1.5 or better" systemd-analyze security --no-pager --threshold=15 cloutd@main.service
produce events1
check "every score is right, from a real Kafka in a real Redis" all_right clout: events1
check "the journal says so, under the id that people alert on" \
    until_true alerted main notice ffc58b74753d4c8b8fb93445d5bb202a ' msg=ready '
check "systemctl status has rate, lag and accounts" \
    until_true says StatusText main "*events/s, lag * messages (* s), * accounts in memory"
check "cloutctl finds it all in /etc/cloutd/main.yaml" cloutctl top
check "  and the daemon's socket" cloutctl status

# ---- a second instance, for a lane that stands still: that takes half a minute, so it goes on beside the rest ----

sed -e 's/group: cloutd/group: second/; s/prefix: "clout:"/prefix: "second:"/; s/:9464/:9465/' \
    -e 's/#username: .*/username: second/' \
    -e 's|#properties_file: .*|properties_file: /run/credentials/cloutd@second.service/cloutd_kafka.properties|' \
    /etc/cloutd/main.yaml >/etc/cloutd/second.yaml
echo client.id=probe >/etc/cloutd/credentials/kafka.properties
mkdir -p /run/systemd/system/cloutd@second.service.d
printf '[Service]\nWatchdogSec=4s\n' >/run/systemd/system/cloutd@second.service.d/watchdog.conf
systemctl daemon-reload
check "a second instance runs beside it, its Kafka properties a credential" systemctl -q start cloutd@second
until_true http 9465/readyz
check "both count the same" all_right second: events1
check "it reloads, though its user and its properties are in credentials" systemctl reload cloutd@second
before=$(restarts second)
systemctl kill -s STOP cloutd@second
check "a process that is stopped is ended by the watchdog, and started again" until_true restarted second "$before"
until_true http 9465/readyz
before=$(restarts second)
lane=$(grep -lx 'lane 1' /proc/"$(show MainPID second)"/task/*/comm | cut -d/ -f5)
./freeze "$lane" &
freezing=$!

# ---- nothing but its own folders ----

written_elsewhere() {
    local folder
    # Users that exist only while a unit runs have these numbers; redis and the others have not.
    find / -xdev -uid +61183 -uid -65520 ! -path '/proc/*' | grep -vE '^/(var/lib/private/cloutd|run/(private/)?cloutd|run/credentials)(/|$)' && return 0
    # The root of its mount namespace, which even root cannot write to in there.
    for folder in / /etc /etc/cloutd /usr /var /var/lib /home /root /boot; do
        nsenter -t "$(show MainPID main)" -m touch "$folder/x" 2>/dev/null && echo "$folder" && return 0
    done
    return 1
}
check "nothing is written, nor can be, outside its folders" fails written_elsewhere
check "it cannot run another program" \
    fails nsenter -t "$(show MainPID main)" -m setpriv --reuid 65534 --clear-groups --no-new-privs /bin/true

# ---- reload ----

pid=$(show MainPID main)
sed -i 's/{points: 1}/{points: 2}/' /etc/cloutd/policies/kred.yaml
follow=2
check "a reload is good" systemctl reload cloutd@main
check "  the process is the same" says MainPID main "$pid"
check "  and every account is scored by the new points" all_right clout: events1
cp /etc/cloutd/main.yaml good.yaml
echo 'lanes: many' >>/etc/cloutd/main.yaml
check "a reload with a bad file fails" fails systemctl reload cloutd@main
check "  the service stays active" says "ActiveState" main active
check "  the process is the same" says MainPID main "$pid"
check "  and the journal names file and line" in_journal main 'main.yaml:[0-9]+:[0-9]+: lanes'
systemctl kill -s HUP cloutd@main
check "SIGHUP without the check is refused as well, and a metric says so" \
    until_true metric 9464 'cloutd_config_last_reload_successful 0'
check "  the daemon goes on" http 9464/readyz
cp /etc/cloutd/main.yaml /etc/cloutd/bad.yaml
cp good.yaml /etc/cloutd/main.yaml
check "a start with a bad file fails" fails systemctl -q start cloutd@bad
sleep 3
check "  by exit status 78, and is not tried again" \
    test "$(show ExecMainStatus bad) $(show NRestarts bad) $(show ActiveState bad)" = "78 0 failed"
check "  an error in the journal names file and line" \
    until_true alerted bad err e58d80e036b04c02b5298c64d3af5861 'bad.yaml:[0-9]+:[0-9]+: lanes'

# ---- killed while events flow ----

produce events2 --speed 100000 &
producing=$!
until_true in_journal main 'partitions assigned'
systemctl kill -s KILL cloutd@main
wait $producing
check "killed, it is started again" until_true restarted main 0
check "  is ready again" until_true http 9464/readyz
check "  and no score is wrong" all_right clout: events1 events2

# ---- the lane that stood still ----

check "a lane that stands still is said in the journal" until_true in_journal second 'a lane gets nothing done.*lane 1'
check "  as an error, under its id" alerted second err 7f4a6e603530450fb27dcc13ef7b0cec 'lane 1'
check "  and silences the watchdog, which starts the daemon again" until_true restarted second "$before"
wait $freezing
until_true http 9465/readyz
check "  no score is wrong after it" all_right second: events1 events2

# ---- upgrade ----

goes_over() { says ActiveState main active && fails says MainPID main "$pid"; }

pid=$(show MainPID main)
check "the package installs over a running instance" dpkg -i /probe/cloutd.deb
check "  which goes over to the new program" goes_over
check "  the edited configuration stays" grep -q "brokers: $broker" /etc/cloutd/main.yaml
until_true http 9464/readyz
produce events3
check "  and no score is wrong" all_right clout: events1 events2 events3
check "  nor those of the other instance" all_right second: events1 events2 events3

# ---- stop, remove ----

check "systemctl stop" systemctl stop cloutd@main
check "  is a success" test "$(show Result main) $(show ExecMainStatus main) $(show ActiveState main)" = "success 0 inactive"
check "  and lag needs no daemon" cloutctl lag
check "dpkg --remove stops what runs" dpkg --remove cloutd
check "  and takes the programs" test ! -e /usr/sbin/cloutd -a ! -e /lib/systemd/system/cloutd@.service
check "  but not the configuration" test -e /etc/cloutd/main.yaml
check "no secret is in the journal" fails grep -E 's3cret|n0-body-kn0ws' <(journalctl -b --no-pager -o export)
check "nothing crashed" test "$(journalctl -b --no-pager | grep -cE 'segfault|Segmentation|status=11/SEGV')" = 0
