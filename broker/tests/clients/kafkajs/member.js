// A member of a group with KafkaJS: `member.js BOOTSTRAP TOPIC GROUP [range]`, told what to do and telling what it did as in group_clients.py.

const readline = require('readline')
const { AssignerProtocol, Kafka, PartitionAssigners, logLevel } = require('kafkajs')

const [bootstrap, topic, groupId, assignor] = process.argv.slice(2)

// The assignor that other libraries know by this name, which KafkaJS does not bring: each member in turn gets partitions that follow each other.
const range = ({ cluster }) => ({
  name: 'range',
  version: 0,
  protocol: ({ topics }) => ({
    name: 'range',
    metadata: AssignerProtocol.MemberMetadata.encode({ version: 0, topics, userData: Buffer.alloc(0) }),
  }),
  assign: async ({ members }) => {
    const ids = members.map(({ memberId }) => memberId).sort()
    const partitions = cluster.findTopicPartitionMetadata(topic).map(({ partitionId }) => partitionId).sort((a, b) => a - b)
    const from = (index) => Math.floor(partitions.length / ids.length) * index + Math.min(index, partitions.length % ids.length)
    return ids.map((memberId, index) => ({
      memberId,
      memberAssignment: AssignerProtocol.MemberAssignment.encode({
        version: 0,
        assignment: { [topic]: partitions.slice(from(index), from(index + 1)) },
        userData: Buffer.alloc(0),
      }),
    }))
  },
})

// A rebalance is no news here; what goes wrong ends the program.
const kafka = new Kafka({ clientId: 'member', brokers: [bootstrap], logLevel: logLevel.NOTHING })
const consumer = kafka.consumer({
  groupId,
  sessionTimeout: 6000,
  heartbeatInterval: 300,
  maxWaitTimeInMs: 100,
  partitionAssigners: [assignor === 'range' ? range : PartitionAssigners.roundRobin],
})
let holding = false

const say = (...words) => process.stdout.write(words.join(' ') + '\n')

const fail = (error) => {
  console.error(error)
  process.exit(1)
}

consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  say('owns', ...(payload.memberAssignment[topic] || []).sort((a, b) => a - b))
})
// It starts again by itself after what may pass: a coordinator that is being loaded.
consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || fail(payload.error))

const eachBatch = async ({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary }) => {
  for (const message of batch.messages) {
    say('got', batch.partition, message.offset, message.value)
    resolveOffset(message.offset)
  }
  if (holding) return
  const next = String(BigInt(batch.lastOffset()) + 1n)
  await commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition: batch.partition, offset: next }] }] })
  say('committed', batch.partition, next)
  await heartbeat()
}

const run = async () => {
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  await consumer.run({ autoCommit: false, eachBatch })
}

const leave = async () => {
  await consumer.disconnect()
  process.exit(0)
}

const commands = readline.createInterface({ input: process.stdin })
commands.on('line', (line) => {
  if (line !== 'hold') return leave().catch(fail)
  holding = true
  say('holding')
})
commands.on('close', () => leave().catch(fail))
run().catch(fail)
