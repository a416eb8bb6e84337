/**
 * Several home servers as operators run them: for each a gateway process and a database of its own, TLS between them,
 * and from each to every other a line that can be cut.
 */
import { PgConnection } from "@effect/sql-pg"
import type { Event } from "@greenroom/protocol/Event"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Exit, type Redacted, Scope } from "effect"
import type { Answer, Body } from "../../support/Curl.ts"
import { freePort } from "../../support/FreePort.ts"
import * as GatewayProcess from "../../support/GatewayProcess.ts"
import { waitFor } from "../../support/Polling.ts"
import { type Person, type Scene, sceneOf } from "../../support/Scene.ts"
import * as SeveralNodes from "../../support/SeveralNodes.ts"
import { type Line, lineTo } from "./Line.ts"

export { freePort }

interface Place {
  readonly serverName: ServerName
  readonly port: number
  readonly federationPort: number
  readonly dataDir: string
  readonly databaseUrl: Redacted.Redacted
  /** `name=host:port` of the others. */
  readonly servers: ReadonlyArray<string>
  /** Whether it may be several nodes (`SeveralNodes`). */
  readonly several: boolean
}

const select = (databaseUrl: Redacted.Redacted, sql: string): Effect.Effect<ReadonlyArray<Body>> =>
  Effect.scoped(
    Effect.flatMap(PgConnection.make({ url: databaseUrl, prepare: false }), (connection) => connection.query(sql))
  ).pipe(
    Effect.orDie,
    Effect.map(({ rows }) => rows as ReadonlyArray<Body>)
  )

/** A home server that can be stopped in every way, and started again on the same ports with what it had. */
export class HomeServer {
  readonly serverName: ServerName
  readonly federationPort: number
  private readonly place: Place
  private running: { readonly scope: Scope.Closeable; readonly scene: Scene } | undefined

  constructor(place: Place) {
    this.place = place
    this.serverName = place.serverName
    this.federationPort = place.federationPort
  }

  readonly start: Effect.Effect<void> = Effect.suspend(() =>
    Effect.gen({ self: this }, function* () {
      const { databaseUrl, dataDir, federationPort, port, serverName, servers, several } = this.place
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

  /** SIGSTOP: connections stand, nothing is answered any more. */
  readonly freeze: Effect.Effect<void> = Effect.suspend(() => this.scene.gateway.pause)

  readonly thaw: Effect.Effect<void> = Effect.suspend(() => this.scene.gateway.resume)

  get scene(): Scene {
    return this.running!.scene
  }

  /** The log of the server. */
  get log(): string {
    return this.scene.gateway.output()
  }

  register(user: string): Effect.Effect<Person> {
    return this.scene.register(user)
  }

  /** A query of what it has stored. */
  select(sql: string): Effect.Effect<ReadonlyArray<Body>> {
    return select(this.place.databaseUrl, sql)
  }

  /** The events of a room that its users may see, with their places in the graph, in the order of its timeline. */
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
  /** Cuts the lines between two servers, both ways. */
  readonly cut: (a: HomeServer, b: HomeServer) => Effect.Effect<void>
  readonly mend: (a: HomeServer, b: HomeServer) => Effect.Effect<void>
}

export interface NetworkOptions {
  /** The ports of servers that the test plays itself, by name. */
  readonly others?: { readonly [serverName: string]: number }
}

/**
 * Home servers of these names, all of them started. They end with the scope. With `GREENROOM_TEST_NODES=3` the first is three
 * nodes.
 */
export const network: (
  names: ReadonlyArray<string>,
  options?: NetworkOptions
) => Effect.Effect<Network, never, Scope.Scope> = Effect.fnUntraced(function* (names, { others = {} } = {}) {
  const ports = new Map<string, number>()
  for (const name of names) ports.set(name, yield* freePort)
  const lines = new Map<string, Line>()
  for (const from of names) {
    for (const to of names) if (to !== from) lines.set(`${from} ${to}`, yield* lineTo(ports.get(to)!))
  }
  const elsewhere = Object.entries(others).map(([name, port]) => `${name}=127.0.0.1:${port}`)
  const begin = Effect.fnUntraced(function* (name: string) {
    const servers = names.flatMap((to) => (to === name ? [] : [`${to}=127.0.0.1:${lines.get(`${name} ${to}`)!.port}`]))
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
      lines.get(`${a.serverName} ${b.serverName}`)![what],
      lines.get(`${b.serverName} ${a.serverName}`)![what]
    )
  return { servers, cut: (a, b) => both(a, b, "cut"), mend: (a, b) => both(a, b, "mend") }
})

// Actions of people

const path = (...parts: ReadonlyArray<string>): string => parts.map((part) => `/${encodeURIComponent(part)}`).join("")

/** The answer, if it is the one that is expected. */
export const expectOk = (asked: Effect.Effect<Answer>): Effect.Effect<Body> =>
  Effect.flatMap(asked, ({ body, status, text }) =>
    status === 200 ? Effect.succeed(body) : Effect.die(new Error(`Answered with ${status}: ${text}`))
  )

/** Room ID and alias of a new room. */
export const createRoom = (
  person: Person,
  options: Body = {}
): Effect.Effect<{ readonly room_id: string; readonly room_alias: string }> =>
  expectOk(person.ask("POST", "/createRoom", options))

export const join = (person: Person, idOrAlias: string): Effect.Effect<Body> =>
  expectOk(person.ask("POST", path("join", idOrAlias), {}))

/** Says something, and gives the event ID. */
export const say = (person: Person, roomId: string, body: string): Effect.Effect<string> =>
  Effect.map(
    expectOk(person.ask("POST", `${path("rooms", roomId)}/send/m.room.message`, { msgtype: "m.text", body })),
    ({ event_id }) => event_id
  )

/** One of the requests that change a membership: invite, kick, ban, leave, knock. */
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

/** The state of the room as the person sees it: event IDs by type and state key. */
export const stateOf = (person: Person, roomId: string): Effect.Effect<{ readonly [key: string]: string }> =>
  Effect.map(expectOk(person.ask("GET", `${path("rooms", roomId)}/state`)), (events) =>
    Object.fromEntries(
      events
        .map((event: Body) => [`${event.type} ${event.state_key}`, event.event_id])
        .sort(([a]: Body, [b]: Body) => (a < b ? -1 : 1))
    )
  )

/** The next event that the person is told of from `from` on for which this holds. */
export const sees = (person: Person, isMeant: (event: Body) => boolean, from = "START"): Effect.Effect<Body> =>
  Effect.map(
    waitFor((asked) => person.ask("GET", asked), from, isMeant),
    ({ event }) => event
  )

/** Waits until the person has read these words. */
export const reads = (person: Person, roomId: string, body: string): Effect.Effect<Body> =>
  sees(person, (event) => event.room_id === roomId && event.type === "m.room.message" && event.content.body === body)

export const isMember = (userId: string, membership: string) => (event: Body) =>
  event.type === "m.room.member" && event.state_key === userId && event.content.membership === membership

/** A request of each server to each other, so that none waits any longer to try the other again. */
export const meetAgain = (people: ReadonlyArray<Person>) =>
  Effect.forEach(people, (person) =>
    Effect.forEach(
      people.filter((other) => other !== person),
      ({ userId }) =>
        person.ask("GET", `/directory/room/${encodeURIComponent(`#nowhere:${userId.slice(userId.indexOf(":") + 1)}`)}`)
    )
  )

/** All events of a room from its end to its beginning, page by page, as the person reads them. */
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

/** The violations of causality: pairs of an event and one that it follows, but stands behind it. */
export const disorder = (order: ReadonlyArray<string>, graph: ReadonlyArray<Event>): ReadonlyArray<string> => {
  const place = new Map(order.map((id, index) => [id, index]))
  return graph.flatMap((event) =>
    event.prev_events.flatMap((before) =>
      (place.get(before) ?? -1) > (place.get(event.event_id) ?? Number.POSITIVE_INFINITY)
        ? [`${event.event_id} comes before ${before}`]
        : []
    )
  )
}
