# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# kafka.sh - a real Apache Kafka for tests and demos, without installing one.
#
#   . tests/support/kafka.sh
#   kafka_fetch            jars into a cache that the next run finds again; needs maven and the network once
#   kafka_start DIR        one broker, its data and its log in DIR; DIR/brokers then has its address, DIR/pid its pid
#   kafka_start DIR        again, after kafka_stop: the same broker, same port, same data
#   kafka_stop DIR [KILL]  stop it (KILL: as a crash would)
#
# Where DIR/server.pem is (private key and certificate, for localhost), the broker also listens with TLS and SASL (PLAIN,
# SCRAM-SHA-512), for the user cloutd with the password in DIR/password; DIR/secure-brokers has that address.
#
# Debian packages no broker, but the artifact kafka_2.13 on Maven Central is the broker itself.  It runs as a single
# node that is its own controller, on two free loopback ports.  Functions return 1 after a sentence on stderr.

KAFKA_VERSION=${CLOUTD_KAFKA_VERSION:-4.1.0}
KAFKA_LOG4J_VERSION=2.24.3
# Small and quick to start: it carries a test's load, not a company's.
KAFKA_JVM=(java -Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1)

kafka_home() {
    printf '%s\n' "${CLOUTD_KAFKA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/cloutd/kafka-$KAFKA_VERSION}"
}

kafka_fetch() {
    local home scratch
    home=$(kafka_home)
    [ -d "$home" ] && return 0
    mkdir -p "${home%/*}" || return 1
    (
        flock 9
        [ -d "$home" ] && exit 0 # someone else fetched it while we waited
        scratch=$(mktemp -d "${home%/*}/fetch.XXXXXX") || exit 1
        # shellcheck disable=SC2064  # the folder of now
        trap "rm -rf '$scratch'" EXIT
        cat >"$scratch/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>cloutd</groupId><artifactId>kafka-for-tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
      <version>$KAFKA_VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId>
      <version>$KAFKA_LOG4J_VERSION</version>
    </dependency>
  </dependencies>
</project>
POM
        if ! mvn -q -B -Dstyle.color=never -f "$scratch/pom.xml" dependency:copy-dependencies \
            -DoutputDirectory="$scratch/libs" >"$scratch/mvn.log" 2>&1; then
            tail -n 20 "$scratch/mvn.log" >&2
            echo "Apache Kafka $KAFKA_VERSION could not be fetched from Maven Central:" \
                "is there a network, and are maven and a Java runtime installed?" >&2
            exit 1
        fi
        mv "$scratch/libs" "$home"
    ) 9>"$home.lock"
}

# A loopback port below the ephemeral range that nobody listens on.
kafka_free_port() {
    local port
    while :; do
        port=$((RANDOM % 12000 + 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

kafka_configure() {
    local dir=$1 port controller_port format=()
    port=$(kafka_free_port)
    controller_port=$(kafka_free_port)
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller_port
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
PROPERTIES
    [ ! -f "$dir/server.pem" ] || kafka_secure "$dir" || return 1
    echo "127.0.0.1:$port" >"$dir/brokers"
    rm -rf "$dir/data"
    # Any 16 bytes in base64 name a cluster; nothing else ever talks to this one.
    "${KAFKA_JVM[@]}" -cp "$(kafka_home)/*" kafka.tools.StorageTool format -t "$(printf %s cloutd-for-tests | base64 | tr -d =)" \
        -c "$dir/server.properties" "${format[@]}" >>"$dir/log" 2>&1
}

# The other listener of the broker in $1; how its storage is formatted is added to format.
kafka_secure() {
    local dir=$1 port password login=org.apache.kafka.common.security
    port=$(kafka_free_port)
    password=$(cat "$dir/password") || return 1
    sed -i -e "s|^listeners=.*|&,SASL_SSL://127.0.0.1:$port|" -e "s|^advertised.listeners=.*|&,SASL_SSL://localhost:$port|" \
        -e "s|^listener.security.protocol.map=.*|&,SASL_SSL:SASL_SSL|" "$dir/server.properties" || return 1
    cat >>"$dir/server.properties" <<PROPERTIES
listener.name.sasl_ssl.ssl.keystore.type=PEM
listener.name.sasl_ssl.ssl.keystore.location=$dir/server.pem
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_cloutd="$password";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
PROPERTIES
    echo "localhost:$port" >"$dir/secure-brokers"
    format=(--add-scram "SCRAM-SHA-512=[name=cloutd,password=$password]")
}

# Start what is configured in $1 and wait until it takes connections.
kafka_run() {
    local dir=$1 port tries
    port=$(cat "$dir/brokers")
    port=${port##*:}
    # A session of its own: Ctrl-C at the terminal must not take the broker away from under those who use it.
    setsid "${KAFKA_JVM[@]}" -cp "$(kafka_home)/*" kafka.Kafka "$dir/server.properties" \
        </dev/null >>"$dir/log" 2>&1 9>&- &
    echo $! >"$dir/pid"
    for ((tries = 0; tries < 600; tries++)); do
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || return 1
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

kafka_start() {
    local dir=$1
    kafka_fetch || return 1
    if [ -f "$dir/server.properties" ]; then
        kafka_run "$dir" && return 0
    else
        mkdir -p "$dir" || return 1
        # A port that was free may be taken by the time the broker wants it.
        for _ in 1 2 3; do
            kafka_configure "$dir" && kafka_run "$dir" && return 0
            kafka_stop "$dir" KILL
        done
    fi
    tail -n 20 "$dir/log" >&2
    echo "Apache Kafka did not start; its log: $dir/log" >&2
    return 1
}

kafka_stop() {
    local dir=$1 signal=${2:-TERM} pid tries
    [ -f "$dir/pid" ] || return 0
    pid=$(cat "$dir/pid")
    rm -f "$dir/pid"
    kill -s "$signal" "$pid" 2>/dev/null || return 0
    for ((tries = 0; tries < 150; tries++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -s KILL "$pid" 2>/dev/null
    return 0
}
