// franz-go against a broker with auto-creation off; the command lines, for a one-partition topic that held nothing:
//   cases BOOTSTRAP ringlog|kafka        write BOOTSTRAP TOPIC none|gzip|snappy|lz4|zstd COUNT        read BOOTSTRAP TOPIC,... COUNT
//   member BOOTSTRAP TOPIC GROUP [range]

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	messages = 500
	start    = int64(1_700_000_000_000)
)

var (
	bootstrap    string
	transactions bool
	admin        *kadm.Client
	bound        context.Context // of a case: a client that asks for ever fails it
	checked      int
	names        = []string{"none", "gzip", "snappy", "lz4", "zstd"}
	codecs       = map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
)

func main() {
	arguments := os.Args[1:]
	bootstrap = arguments[1]
	switch arguments[0] {
	case "write":
		end(run(func() { write(arguments[2], arguments[3], number(arguments[4])) }))
	case "read":
		end(run(func() {
			for _, topic := range strings.Split(arguments[2], ",") {
				read(topic, number(arguments[3]))
			}
		}))
	case "member":
		end(run(func() { memberOfGroup(arguments[2], arguments[3], len(arguments) > 4) }))
	case "cases":
		transactions = arguments[2] == "kafka"
		cases()
	default:
		panic("what is " + arguments[0] + "?")
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run gives a case its time and returns what it panicked with, which is how the checks below fail.
func run(one func()) (err error) {
	var release context.CancelFunc
	bound, release = context.WithTimeout(context.Background(), 60*time.Second)
	defer release()
	defer func() {
		if failure := recover(); failure != nil {
			err = fmt.Errorf("%v\n%s", failure, debug.Stack())
		}
	}()
	one()
	return nil
}

// The messages that one library writes for another to read.

func message(topic string, index int) *kgo.Record {
	text := strconv.Itoa(index)
	return &kgo.Record{
		Topic: topic, Key: []byte("k" + text), Value: []byte("v" + text + "-" + strings.Repeat("x", index%200)),
		Headers: []kgo.RecordHeader{{Key: "h", Value: []byte(strconv.Itoa(index / 100))}},
	}
}

func write(topic, codec string, count int) {
	var sent []*kgo.Record
	for index := 0; index < count; index++ {
		sent = append(sent, message(topic, index))
	}
	compression, known := codecs[codec]
	equal(known, true, "codec "+codec+" is known")
	produce(sent, kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(compression))
	fmt.Printf("written=%d\n", count)
}

func read(topic string, count int) {
	for index, record := range consume(topic, 0, kgo.NewOffset().AtStart(), count) {
		sent := message(topic, index)
		equal(record.Offset, int64(index), "offset")
		equal(string(record.Key), string(sent.Key), fmt.Sprint("key at ", index))
		equal(string(record.Value), string(sent.Value), fmt.Sprint("value at ", index))
		equal(record.Headers, sent.Headers, fmt.Sprint("headers at ", index))
	}
	admin = kadm.NewClient(client())
	equal(listed(admin.ListEndOffsets(bound, topic)), int64(count), "end offset")
	fmt.Printf("checked=%d\n", count)
}

// What the cases are made of.

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(actual, expected interface{}, what string) {
	if !reflect.DeepEqual(actual, expected) {
		panic(fmt.Sprintf("%s: expected %.400s, got %.400s", what, fmt.Sprint(expected), fmt.Sprint(actual)))
	}
}

// refused fails unless err is exactly this answer of the broker.
func refused(expected *kerr.Error, err error, what string) {
	if !errors.Is(err, expected) {
		panic(fmt.Sprintf("%s: expected %v, got %v", what, expected, err))
	}
}

func code(answer int16) error {
	return kerr.ErrorForCode(answer)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	must(err)
	return value
}

func fresh(prefix string) string {
	random := make([]byte, 8)
	_, err := rand.Read(random)
	must(err)
	return fmt.Sprintf("%s-%x", prefix, random)
}

func client(options ...kgo.Opt) *kgo.Client {
	settings := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.MetadataMinAge(20 * time.Millisecond), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	made, err := kgo.NewClient(append(settings, options...)...)
	must(err)
	return made
}

// direct sends a request to the one broker without the client looking at it.
func direct(request kmsg.Request, options ...kgo.Opt) kmsg.Response {
	asking := client(options...)
	defer asking.Close()
	metadata, err := admin.BrokerMetadata(bound)
	must(err)
	answer, err := asking.Broker(int(metadata.Controller)).Request(bound, request)
	must(err)
	return answer
}

// create makes a topic of its own for a case; config are names and values in turn.
func create(partitions int32, config ...string) string {
	name := fresh("t")
	must(createNamed(name, partitions, 1, config...))
	return name
}

func createNamed(name string, partitions int32, replicas int16, config ...string) error {
	settings := map[string]*string{}
	for index := 0; index < len(config); index += 2 {
		settings[config[index]] = &config[index+1]
	}
	_, err := admin.CreateTopic(bound, partitions, replicas, settings, name)
	return err
}

func produce(sent []*kgo.Record, options ...kgo.Opt) {
	must(tryProduce(sent, options...))
}

func tryProduce(sent []*kgo.Record, options ...kgo.Opt) error {
	producer := client(options...)
	defer producer.Close()
	return producer.ProduceSync(bound, sent...).FirstErr()
}

func valued(topic string, partition int32, values []string) []*kgo.Record {
	var made []*kgo.Record
	for _, value := range values {
		made = append(made, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)})
	}
	return made
}

func numbered(prefix string, count int) []string {
	var made []string
	for index := 0; index < count; index++ {
		made = append(made, prefix+strconv.Itoa(index))
	}
	return made
}

// consume reads exactly count records of a partition from an offset.
func consume(topic string, partition int32, offset kgo.Offset, count int, options ...kgo.Opt) []*kgo.Record {
	got, err := tryConsume(map[string]map[int32]kgo.Offset{topic: {partition: offset}}, count, options...)
	must(err)
	return got
}

func tryConsume(from map[string]map[int32]kgo.Offset, count int, options ...kgo.Opt) ([]*kgo.Record, error) {
	consumer := client(append(options, kgo.ConsumePartitions(from), kgo.FetchMaxWait(100*time.Millisecond))...)
	defer consumer.Close()
	var got []*kgo.Record
	for len(got) < count {
		fetches := consumer.PollFetches(bound)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(got), count, err)
		}
		got = append(got, fetches.Records()...)
	}
	checked += count
	return got[:count], nil
}

func values(got []*kgo.Record) []string {
	var all []string
	for _, record := range got {
		all = append(all, string(record.Value))
	}
	return all
}

// listed is the offset of the only partition that was asked for.
func listed(offsets kadm.ListedOffsets, err error) int64 {
	must(err)
	must(offsets.Error())
	found := int64(-2)
	offsets.Each(func(one kadm.ListedOffset) { found = one.Offset })
	return found
}

func timed(topic string, time int64, value string) *kgo.Record {
	return &kgo.Record{Topic: topic, Timestamp: instant(time), Value: []byte(value)}
}

func instant(ms int64) time.Time {
	return time.UnixMilli(ms)
}
