/**
 * Home servers as operators run them: a gateway process and a database each, TLS between them, and from each to every other a link that
 * can be cut.
 */
import { PgConnection } from "@effect/sql-pg"
import type { Event } from "@greenroom/protocol/Event"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { freePort } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Exit, type Redacted, Scope } from "effect"
import type { Answer, Body } from "../../support/Curl.ts"
import * as GatewayProcess from "../../support/GatewayProcess.ts"
import { waitFor } from "../../support/Polling.ts"
import { type Person, type Scene, sceneOf } from "../../support/Scene.ts"
import * as SeveralNodes from "../../support/SeveralNodes.ts"
import { type Link, linkTo } from "./Link.ts"

interface Settings {
  readonly serverName: ServerName
  readonly port: number
  readonly federationPort: number
  readonly dataDir: string
  readonly databaseUrl: Redacted.Redacted
  /** The other servers, as `name=host:port`. */
  readonly servers: ReadonlyArray<string>
  /** Whether `GREENROOM_TEST_NODES` makes it several nodes (`SeveralNodes`). */
  readonly several: boolean
}

const select = (databaseUrl: Redacted.Redacted, sql: string): Effect.Effect<ReadonlyArray<Body>> =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: databaseUrl, prepare: false }), (connection) => connection.query(sql))
  ).pipe(
    Effect.orDie,
    Effect.map(({ rows }) => rows as ReadonlyArray<Body>)
  )

/** A home server that can be stopped, killed or paused, and started again on the same ports with its data. */
export class HomeServer {
  readonly serverName: ServerName
  readonly federationPort: number
  private readonly settings: Settings
  private running: { readonly scope: Scope.Closeable; readonly scene: Scene } | undefined

  constructor(settings: Settings) {
    this.settings = settings
    this.serverName = settings.serverName
    this.federationPort = settings.federationPort
  }

  readonly start: Effect.Effect<void> = Effect.suspend(() =>
    Effect.gen({ self: this }, function* () {
      const { databaseUrl, dataDir, federationPort, port, serverName, servers, several } = this.settings
      const scope = yield* Scope.make()
      const environment = {
        GREENROOM_FEDERATION_PORT: String(federationPort),
        GREENROOM_FEDERATION_VERIFY: "false",
        GREENROOM_FEDERATION_SERVERS: servers.join(",")
      }
      const { start } = several ? SeveralNodes : GatewayProcess
      const gateway = yield* start({ dataDir, databaseUrl, environment, port, serverName }).pipe(Scope.provide(scope))
      this.running = { scope, scene: sceneOf(gateway) }
    })
  )

  /** SIGTERM. */
  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    const { running } = this
    this.running = undefined
    return running === undefined ? Effect.void : Scope.close(running.scope, Exit.void)
  })

  /** SIGKILL. */
  readonly kill: Effect.Effect<void> = Effect.suspend(() =>
    this.running === undefined ? Effect.void : Effect.andThen(this.scene.gateway.kill, this.stop)
  )

  /** SIGSTOP: connections stay open, and requests get no answer. */
  readonly freeze: Effect.Effect<void> = Effect.suspend(() => this.scene.gateway.pause)

  readonly thaw: Effect.Effect<void> = Effect.suspend(() => this.scene.gateway.resume)

  get scene(): Scene {
    return this.running!.scene
  }

  /** The output of the server. */
  get log(): string {
    return this.scene.gateway.output()
  }

  register(user: string): Effect.Effect<Person> {
    return this.scene.register(user)
  }

  /** Runs a query on the database of the server. */
  select(sql: string): Effect.Effect<ReadonlyArray<Body>> {
    return select(this.settings.databaseUrl, sql)
  }

  /** The accepted events of a room, in the order of its timeline. */
  events(roomId: string): Effect.Effect<ReadonlyArray<Event>> {
    return Effect.map(
      this.select(
        `SELECT body FROM events JOIN rooms USING (room_nid) WHERE room_id = '${roomId}' AND status <= 1 ORDER BY xid, nid`
      ),
      (rows) => rows.map(({ body }) => JSON.parse(body))
    )
  }
}

export interface Network {
  readonly servers: ReadonlyArray<HomeServer>
  /** Cuts the links between two servers, in both directions. */
  readonly cut: (a: HomeServer, b: HomeServer) => Effect.Effect<void>
  readonly mend: (a: HomeServer, b: HomeServer) => Effect.Effect<void>
}

export interface NetworkOptions {
  /** The ports of servers that the test implements, by name. */
  readonly others?: { readonly [serverName: string]: number }
}

/** Starts home servers of these names. They end with the scope. With `GREENROOM_TEST_NODES=3` the first has three nodes. */
export const network: (
  names: ReadonlyArray<string>,
  options?: NetworkOptions
) => Effect.Effect<Network, never, Scope.Scope> = Effect.fnUntraced(function* (names, { others = {} } = {}) {
  const ports = new Map<string, number>()
  for (const name of names) ports.set(name, yield* freePort)
  const links = new Map<string, Link>()
  for (const from of names) {
    for (const to of names) if (to !== from) links.set(`${from} ${to}`, yield* linkTo(ports.get(to)!))
  }
  const elsewhere = Object.entries(others).map(([name, port]) => `${name}=127.0.0.1:${port}`)
  const begin = Effect.fnUntraced(function* (name: string) {
    const servers = names.flatMap((to) => (to === name ? [] : [`${to}=127.0.0.1:${links.get(`${name} ${to}`)!.port}`]))
    const server = new HomeServer({
      serverName: ServerName.make(name),
      port: yield* freePort,
      federationPort: ports.get(name)!,
      dataDir: yield* GatewayProcess.temporaryDirectory,
      databaseUrl: yield* Effect.orDie(TestDatabase.url),
      servers: [...servers, ...elsewhere],
      several: name === names[0]
    })
    yield* Effect.acquireRelease(server.start, () => server.kill)
    return server
  })
  const servers = yield* Effect.forEach(names, begin, { concurrency: "unbounded" })
  const both = (a: HomeServer, b: HomeServer, what: "cut" | "mend") =>
    Effect.andThen(
      links.get(`${a.serverName} ${b.serverName}`)![what],
      links.get(`${b.serverName} ${a.serverName}`)![what]
    )
  return { servers, cut: (a, b) => both(a, b, "cut"), mend: (a, b) => both(a, b, "mend") }
})

const path = (...parts: ReadonlyArray<string>): string => parts.map((part) => `/${encodeURIComponent(part)}`).join("")

/** The body of an answer, which must have status 200. */
export const expectOk = (asked: Effect.Effect<Answer>): Effect.Effect<Body> =>
  Effect.flatMap(asked, ({ body, status, text }) =>
    status === 200 ? Effect.succeed(body) : Effect.die(new Error(`Answered with ${status}: ${text}`))
  )

/** Creates a room by the draft's API. Returns its ID and alias. */
export const createRoom = (
  person: Person,
  options: Body = {}
): Effect.Effect<{ readonly room_id: string; readonly room_alias: string }> =>
  expectOk(person.ask("POST", "/createRoom", options))

export const join = (person: Person, idOrAlias: string): Effect.Effect<Body> =>
  expectOk(person.ask("POST", path("join", idOrAlias), {}))

/** Sends a message. Returns the event ID. */
export const say = (person: Person, roomId: string, body: string): Effect.Effect<string> =>
  Effect.map(
    expectOk(person.ask("POST", `${path("rooms", roomId)}/send/m.room.message`, { msgtype: "m.text", body })),
    ({ event_id }) => event_id
  )

/** Changes a membership. */
export const change = (
  person: Person,
  roomId: string,
  action: "invite" | "kick" | "ban" | "leave" | "knock",
  userId?: string
): Effect.Effect<Answer> =>
  person.ask("POST", `${path("rooms", roomId)}/${action}`, userId === undefined ? {} : { user_id: userId })

export const setState = (
  person: Person,
  roomId: string,
  type: string,
  content: Body,
  stateKey = ""
): Effect.Effect<Answer> =>
  person.ask("PUT", path("rooms", roomId, "state", type, ...(stateKey === "" ? [] : [stateKey])), content)

export const getState = (person: Person, roomId: string, type: string, stateKey = ""): Effect.Effect<Answer> =>
  person.ask("GET", path("rooms", roomId, "state", type, ...(stateKey === "" ? [] : [stateKey])))

/** The state of the room that the user reads: event IDs by type and state key. */
export const stateOf = (person: Person, roomId: string): Effect.Effect<{ readonly [key: string]: string }> =>
  Effect.map(expectOk(person.ask("GET", `${path("rooms", roomId)}/state`)), (events) =>
    Object.fromEntries(
      events
        .map((event: Body) => [`${event.type} ${event.state_key}`, event.event_id])
        .sort(([a]: Body, [b]: Body) => (a < b ? -1 : 1))
    )
  )

/** Waits for the first matching event in the event stream of the user after `from`. */
export const sees = (person: Person, matches: (event: Body) => boolean, from = "START"): Effect.Effect<Body> =>
  Effect.map(
    waitFor((asked) => person.ask("GET", asked), from, matches),
    ({ event }) => event
  )

/** Waits until the user has received the message. */
export const reads = (person: Person, roomId: string, body: string): Effect.Effect<Body> =>
  sees(person, (event) => event.room_id === roomId && event.type === "m.room.message" && event.content.body === body)

export const isMember = (userId: string, membership: string) => (event: Body) =>
  event.type === "m.room.member" && event.state_key === userId && event.content.membership === membership

/** Sends a request from each server to each other, which ends the back-off of the receiving servers. */
export const endBackoff = (people: ReadonlyArray<Person>) =>
  Effect.forEach(people, (person) =>
    Effect.forEach(
      people.filter((other) => other !== person),
      ({ userId }) =>
        person.ask("GET", `/directory/room/${encodeURIComponent(`#nowhere:${userId.slice(userId.indexOf(":") + 1)}`)}`)
    )
  )

/** All events of a room that the user reads, from its end to its beginning. */
export const readBack = (
  person: Person,
  roomId: string,
  limit = 100,
  from = "END"
): Effect.Effect<ReadonlyArray<Body>> =>
  Effect.flatMap(
    expectOk(
      person.ask("GET", `${path("rooms", roomId)}/messages?dir=b&limit=${limit}&from=${encodeURIComponent(from)}`)
    ),
    ({ chunk, end }) =>
      chunk.length === 0
        ? Effect.succeed([])
        : Effect.map(readBack(person, roomId, limit, end), (rest) => [...chunk, ...rest])
  )

/** Pairs of an event and one of its predecessors that comes later in the order. */
export const causalityViolations = (
  order: ReadonlyArray<string>,
  graph: ReadonlyArray<Event>
): ReadonlyArray<string> => {
  const position = new Map(order.map((id, index) => [id, index]))
  return graph.flatMap((event) =>
    event.prev_events.flatMap((before) =>
      (position.get(before) ?? -1) > (position.get(event.event_id) ?? Number.POSITIVE_INFINITY)
        ? [`${event.event_id} comes before ${before}`]
        : []
    )
  )
}
