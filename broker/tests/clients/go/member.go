// A member of a group with franz-go: `member BOOTSTRAP TOPIC GROUP [range]`, told what to do and telling what it did as in group_clients.py.

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// owned is what a member was assigned; franz-go tells what comes and what goes.
type owned struct {
	lock       sync.Mutex
	partitions map[int32]bool
}

func (o *owned) change(topic string, changed map[string][]int32, owns bool) {
	o.lock.Lock()
	defer o.lock.Unlock()
	for _, partition := range changed[topic] {
		if owns {
			o.partitions[partition] = true
		} else {
			delete(o.partitions, partition)
		}
	}
	var all []int
	for partition := range o.partitions {
		all = append(all, int(partition))
	}
	sort.Ints(all)
	words := []interface{}{"owns"}
	for _, partition := range all {
		words = append(words, partition)
	}
	fmt.Println(words...)
}

func memberOfGroup(topic, group string, byRange bool) {
	// It lives until it is told to leave, or is killed.
	living, leave := context.WithCancel(context.Background())
	var holding int32
	go func() {
		commands := bufio.NewScanner(os.Stdin)
		for commands.Scan() && commands.Text() == "hold" {
			atomic.StoreInt32(&holding, 1)
			fmt.Println("holding")
		}
		leave()
	}()
	owns := owned{partitions: map[int32]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) { owns.change(topic, changed, owned) }
	}
	assignor := kgo.CooperativeStickyBalancer()
	if byRange {
		assignor = kgo.RangeBalancer()
	}
	consumer := member(topic, group, kgo.Balancers(assignor), kgo.SessionTimeout(6*time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	for living.Err() == nil {
		fetches := consumer.PollFetches(living)
		// It joins again by itself when a coordinator is being loaded.
		var joining *kgo.ErrGroupSession
		if err := fetches.Err(); living.Err() == nil && !errors.As(err, &joining) {
			must(err)
		}
		next := map[int32]int64{}
		for _, record := range fetches.Records() {
			fmt.Println("got", record.Partition, record.Offset, string(record.Value))
			next[record.Partition] = record.Offset + 1
		}
		if len(next) > 0 && atomic.LoadInt32(&holding) == 0 {
			must(consumer.CommitUncommittedOffsets(living))
			for partition, offset := range next {
				fmt.Println("committed", partition, offset)
			}
		}
		consumer.AllowRebalance()
	}
	consumer.Close()
}
