/** Two Synapses, `a` and `b`, that federate over loopback, with partitions between them. */
import * as path from "node:path"
import { setTimeout as delay } from "node:timers/promises"
import * as Synapse from "../../support/Synapse.ts"
import { EventTables } from "./EventTables.ts"
import { Federation } from "./Federation.ts"
import { Link } from "./Link.ts"
import { Person } from "./Person.ts"
import { privateKey, type Signer } from "./SignedJson.ts"

export class Server {
  readonly synapse: Synapse.Synapse
  readonly link: Link
  readonly tables: EventTables
  readonly signer: Signer

  constructor(synapse: Synapse.Synapse, link: Link) {
    this.synapse = synapse
    this.link = link
    this.tables = new EventTables(synapse.database)
    this.signer = { serverName: synapse.serverName, key: privateKey(synapse.signingSeed) }
  }

  get name(): string {
    return this.synapse.serverName
  }

  readonly person = async (name: string): Promise<Person> =>
    new Person(this.synapse.url, await this.synapse.register(name, "correct horse"))
}

const startServer = async (python: string, directory: string, name: string, port: number): Promise<Server> => {
  const link = new Link(port, port + 10)
  const synapse = await Synapse.start({
    python,
    directory: path.join(directory, name),
    serverName: `localhost:${port}`,
    port: port + 20,
    tlsPort: port + 10,
    settings: {
      presence: { enabled: false },
      dummy_events_threshold: 100_000,
      cleanup_extremities_with_dummy_events: false,
      allow_public_rooms_over_federation: true,
      enable_search: false
    }
  })
  await link.up()
  return new Server(synapse, link)
}

/** The time limit of {@link until}, in steps of 100 ms. */
const steps = 600

const until = async (what: string, holds: () => Promise<boolean>): Promise<void> => {
  for (let step = 0; step < steps; step++) {
    if (await holds()) return
    await delay(100)
  }
  throw new Error(`Not within a minute: ${what}`)
}

export class Pair {
  readonly a: Server
  readonly b: Server
  private isCut = false

  constructor(a: Server, b: Server) {
    this.a = a
    this.b = b
  }

  static readonly start = async (python: string, directory: string): Promise<Pair> => {
    const a = await startServer(python, directory, "a", 28_441)
    try {
      return new Pair(a, await startServer(python, directory, "b", 28_442))
    } catch (error) {
      await a.synapse.stop()
      throw error
    }
  }

  readonly stop = async (): Promise<void> => {
    await Promise.all([this.a.link.down(), this.b.link.down()])
    await Promise.all([this.a.synapse.stop(), this.b.synapse.stop()])
  }

  readonly cut = async (): Promise<void> => {
    this.isCut = true
    await Promise.all([this.a.link.down(), this.b.link.down()])
  }

  /** Waits for the retry interval, since a server would otherwise hold new events back for up to a minute. */
  readonly heal = async (): Promise<void> => {
    if (!this.isCut) return
    this.isCut = false
    await Promise.all([this.a.link.up(), this.b.link.up()])
    await delay(3 * Synapse.retryInterval)
  }

  /** Requests to `a` in the name of `b`, not through the link. */
  get asB(): Federation {
    return new Federation(this.b.signer, this.a.name, this.a.synapse.url)
  }

  /** Waits until an event is known to the other server. */
  readonly delivered = (eventId: string, to: Server): Promise<void> =>
    until(`${eventId} reaches ${to.name}`, async () => to.tables.verdict(eventId) !== undefined)

  /** Sends a message from each server, and waits until both servers have both. The second message merges all forks. */
  readonly settle = async (room: string, onA: Person, onB: Person): Promise<void> => {
    await this.delivered(await onA.sendText(room, "from a"), this.b)
    await this.delivered(await onB.sendText(room, "from b"), this.a)
  }

  /** Runs actions on each side of a partition. */
  readonly duringPartition = async (onA: () => Promise<unknown>, onB: () => Promise<unknown>): Promise<void> => {
    await this.cut()
    try {
      await onA()
      await onB()
    } finally {
      await this.heal()
    }
  }
}

/** The verdict on an event that was sent to a server, or undefined if it is not stored within 5 seconds. */
export const verdictWithin = async (tables: EventTables, eventId: string) => {
  for (let step = 0; step < 50; step++) {
    const verdict = tables.verdict(eventId)
    if (verdict !== undefined) return verdict
    await delay(100)
  }
  return undefined
}
