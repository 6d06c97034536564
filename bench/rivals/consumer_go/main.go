// SPDX-License-Identifier: Apache-2.0

// consumer_go: the consumer that a team which cares for speed would write in Go, to stand beside cloutd in one run.
//
//	consumer-go BROKERS TOPIC REDIS_SOCKET PREFIX
//
// franz-go, sonic and go-redis, which were the fastest of their kind that we tried. A goroutine for each partition, which
// owns the partition's accounts: nothing is locked. It counts points of all time and of each of 24 hours, by the table of
// conf/policies/kred.yaml, and writes what changed to Redis once a second, in pipelines. It is kind to itself as naive.c is:
// no positions, so a crash counts twice; no windows by the day, no undo, nobody leaves; no score of a quiet account ever
// falls. What it must get right, and bench/run compares, is every account's points of all time.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bytedance/sonic"
	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	hours      = 24
	hourMs     = 3_600_000
	pipeline   = 1000
	flushEvery = time.Second
)

type event struct {
	Type      string `json:"type"`
	Actor     string `json:"actor"`
	Target    string `json:"target"`
	Followers int64  `json:"actor_followers"`
	TsMs      int64  `json:"ts"`
}

type account struct {
	id     string
	dirty  bool
	all    int64
	hour   [hours]int64 // which hour points is of
	points [hours]int64
}

// A partition's accounts, and who of them changed since the last flush.
type partition struct {
	records    chan []*kgo.Record
	end        int64
	accounts   map[string]*account
	dirty      []*account
	newestHour int64
	nWrites    int
}

func pointsOf(kind string, followers int64) int64 {
	switch {
	case kind == "follow":
		return 1
	case kind != "retweet" && kind != "reply":
		return 0
	case followers > 100_000:
		return 50
	case followers > 10_000:
		return 25
	}
	return 10
}

func (p *partition) count(record *kgo.Record) {
	var e event

	if err := sonic.ConfigFastest.Unmarshal(record.Value, &e); err != nil {
		log.Fatalf("partition %d offset %d: %v", record.Partition, record.Offset, err)
	}
	points := pointsOf(e.Type, e.Followers)
	if points == 0 || e.Actor == e.Target {
		return
	}
	if e.TsMs == 0 {
		e.TsMs = record.Timestamp.UnixMilli()
	}
	a := p.accounts[e.Target]
	if a == nil {
		// A copy: the event's strings hold the whole record.
		a = &account{id: strings.Clone(e.Target)}
		p.accounts[a.id] = a
	}
	hour := e.TsMs / hourMs
	p.newestHour = max(p.newestHour, hour)
	a.all += points
	if a.hour[hour%hours] < hour {
		a.hour[hour%hours], a.points[hour%hours] = hour, 0
	}
	if a.hour[hour%hours] == hour {
		a.points[hour%hours] += points
	}
	if !a.dirty {
		a.dirty = true
		p.dirty = append(p.dirty, a)
	}
}

func (p *partition) flush(client *redis.Client, prefix string) {
	ctx := context.Background()
	for begin := 0; begin < len(p.dirty); begin += pipeline {
		pipe := client.Pipeline()
		for _, a := range p.dirty[begin:min(begin+pipeline, len(p.dirty))] {
			var day int64

			for i, hour := range a.hour {
				if hour > p.newestHour-hours {
					day += a.points[i]
				}
			}
			pipe.HSet(ctx, prefix+"a:"+a.id, "score", day, "24h", day, "all", a.all)
			a.dirty = false
		}
		if _, err := pipe.Exec(ctx); err != nil {
			log.Fatalf("Redis: %v", err)
		}
	}
	p.nWrites += len(p.dirty)
	p.dirty = p.dirty[:0]
}

func (p *partition) run(client *redis.Client, prefix string) {
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	for next := int64(0); next < p.end; {
		select {
		case records := <-p.records:
			for _, record := range records {
				p.count(record)
			}
			next = records[len(records)-1].Offset + 1
		case <-ticker.C:
			p.flush(client, prefix)
		}
	}
	p.flush(client, prefix)
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("consumer-go: ")
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: consumer-go BROKERS TOPIC REDIS_SOCKET PREFIX")
		os.Exit(64)
	}
	brokers, topic, socket, prefix := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	ctx := context.Background()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(4<<20))
	if err != nil {
		log.Fatalf("Kafka: %v", err)
	}
	ends, err := kadm.NewClient(kafka).ListEndOffsets(ctx, topic)
	if err != nil {
		log.Fatalf("Kafka: %v", err)
	}
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	partitions := make(map[int32]*partition)
	var running sync.WaitGroup
	var nEvents int64
	ends.Each(func(end kadm.ListedOffset) {
		p := &partition{records: make(chan []*kgo.Record, 1), end: end.Offset, accounts: make(map[string]*account)}
		partitions[end.Partition] = p
		nEvents += end.Offset
		running.Add(1)
		go func() {
			defer running.Done()
			p.run(client, prefix)
		}()
	})
	var began time.Time
	for left := nEvents; left > 0; {
		fetches := kafka.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatalf("Kafka: %v", err)
		}
		if began.IsZero() {
			began = time.Now()
		}
		fetches.EachPartition(func(fetched kgo.FetchTopicPartition) {
			if len(fetched.Records) > 0 {
				left -= int64(len(fetched.Records))
				partitions[fetched.Partition].records <- fetched.Records
			}
		})
	}
	running.Wait()
	nWrites := 0
	for _, p := range partitions {
		nWrites += p.nWrites
	}
	fmt.Printf("figures: {\"events\": %d, \"seconds\": %.6f, \"account_writes\": %d}\n", nEvents,
		time.Since(began).Seconds(), nWrites)
	kafka.Close()
}
