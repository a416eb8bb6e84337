/**
 * Home servers within the process of the test, with actors, TLS listeners on loopback and a database each. They can be stopped and started
 * again with their data.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import * as HomeServer from "@greenroom/actors/HomeServer"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { StreamedEvent } from "@greenroom/actors/sync/EventStream"
import { Events } from "@greenroom/actors/sync/Events"
import { FederationListener } from "@greenroom/gateway/federation/FederationListener"
import { unlimited } from "@greenroom/gateway/Rate"
import { type RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import { freePort } from "@greenroom/store/testing/FreePort"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { type Context, Effect, Exit, Layer, Option, type Redacted, Scope, Stream } from "effect"

interface Settings {
  readonly serverName: ServerName
  readonly port: number
  readonly dataDir: string
  readonly databaseUrl: Redacted.Redacted
  readonly addresses: { readonly [serverName: string]: string }
  readonly options: Partial<HomeServer.HomeServerOptions>
}

const layerOf = ({ addresses, dataDir, databaseUrl, options, port, serverName }: Settings) => {
  const { anonymous, requests, sends } = unlimited
  return FederationListener.layer({ host: "127.0.0.1", port, rates: { anonymous, requests, sends } }).pipe(
    Layer.provideMerge(
      HomeServer.layerOnDatabase({
        ...options,
        serverName,
        dataDir,
        federation: { verifyCertificates: false, staticServers: addresses, ...options.federation }
      })
    ),
    Layer.provideMerge(Database.pool({ url: databaseUrl, maxConnections: 5 }))
  )
}

type Services = Layer.Success<ReturnType<typeof layerOf>>

/** A home server that can be stopped and started. */
export class TestServer {
  readonly settings: Settings
  private running: { readonly scope: Scope.Closeable; readonly context: Context.Context<Services> } | undefined

  constructor(settings: Settings) {
    this.settings = settings
  }

  get serverName(): ServerName {
    return this.settings.serverName
  }

  readonly start: Effect.Effect<void> = Effect.suspend(() =>
    Effect.gen({ self: this }, function* () {
      const scope = yield* Scope.make()
      const context = yield* Effect.orDie(Layer.buildWithScope(Layer.fresh(layerOf(this.settings)), scope))
      this.running = { scope, context }
    })
  )

  readonly stop: Effect.Effect<void> = Effect.suspend(() => {
    const { running } = this
    this.running = undefined
    return running === undefined ? Effect.void : Scope.close(running.scope, Exit.void)
  })

  /** Runs an effect inside the server. */
  run<A, E>(effect: Effect.Effect<A, E, Services>): Effect.Effect<A, E> {
    return Effect.suspend(() => Effect.provide(effect, this.running!.context))
  }

  /** Registers a user. */
  person(localpart: string): Effect.Effect<Session> {
    return this.run(
      Effect.orDie(
        Effect.gen(function* () {
          const accounts = yield* Accounts
          const { access_token } = yield* accounts.register({ localpart })
          return yield* accounts.authenticate(access_token)
        })
      )
    )
  }

  /** The first matching event of the user's stream, from its beginning or from a token. */
  sees(session: Session, matches: (event: StreamedEvent) => boolean, from = "START"): Effect.Effect<StreamedEvent> {
    return this.run(
      Effect.flatMap(Events, (events) =>
        events
          .stream(session, from)
          .pipe(Stream.filter(matches), Stream.runHead, Effect.map(Option.getOrThrow), Effect.orDie)
      )
    )
  }
}

interface HomeServersOptions {
  /** Options of single servers, by name. */
  readonly options?: { readonly [serverName: string]: Partial<HomeServer.HomeServerOptions> }
  /** The ports of servers that the test implements, by name. */
  readonly others?: { readonly [serverName: string]: number }
}

/** Starts home servers of these names that know each other's addresses. They stop with the scope. */
export const homeServers = Effect.fnUntraced(function* (
  names: ReadonlyArray<string>,
  { options = {}, others = {} }: HomeServersOptions = {}
) {
  const ports = yield* Effect.forEach(names, () => freePort)
  const addresses = Object.fromEntries([
    ...names.map((name, index) => [name, `127.0.0.1:${ports[index]}`]),
    ...Object.entries(others).map(([name, port]) => [name, `127.0.0.1:${port}`])
  ])
  return yield* Effect.forEach(names, (name, index) =>
    Effect.gen(function* () {
      const server = new TestServer({
        serverName: ServerName.make(name),
        port: ports[index]!,
        dataDir: yield* temporaryDirectory("federation"),
        databaseUrl: yield* Effect.orDie(TestDatabase.url),
        addresses,
        options: options[name] ?? {}
      })
      yield* Effect.acquireRelease(server.start, () => server.stop)
      return server
    })
  )
})

/** Starts red.test and blue.test. */
export const twoHomeServers = Effect.map(
  homeServers(["red.test", "blue.test"]),
  (servers) => [servers[0]!, servers[1]!] as const
)

/** Matches the message with this text. */
export const isMessage =
  (body: string) =>
  (event: StreamedEvent): boolean =>
    event.type === "m.room.message" && event.content.body === body

export const message = (body: string) => ({ msgtype: "m.text", body })

/** The texts of the messages that the user reads in the room, in its order. */
export const readsIn = (server: TestServer, session: Session, roomId: RoomId) =>
  server.run(
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const page = yield* rooms.messages(session, roomId, { limit: 1000 })
      return page.chunk.flatMap((event) => (event.type === "m.room.message" ? [event.content.body] : [])).reverse()
    })
  )
