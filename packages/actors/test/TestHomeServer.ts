/**
 * A home server on a fresh database, for tests, and people on it.
 */
import { formatUserId, ServerName } from "@greenroom/protocol/Identifiers"
import { AccountStore } from "@greenroom/store/AccountStore"
import * as Database from "@greenroom/store/Database"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Redacted } from "effect"
import { Accounts } from "../src/account/Accounts.ts"
import * as HomeServer from "../src/HomeServer.ts"
import { Rooms } from "../src/room/Rooms.ts"
import * as LocalRunner from "../src/runtime/LocalRunner.ts"
import type { Session } from "../src/runtime/Session.ts"

export const serverName = ServerName.make("green.test")

/** Servers that tests play themselves: nobody listens for them, and nobody is asked where they are. */
const staticServers = { "red.test": "127.0.0.1:1", "blue.test": "127.0.0.1:1" }

const options = { serverName, dataDir: "unused: the database is given", federation: { staticServers } }

export const layer = HomeServer.layerOnDatabase(options).pipe(Layer.provideMerge(TestDatabase.layer))

/** The same, with every message between actors encoded and decoded, as between two processes. */
export const encodingLayer = HomeServer.layerOnDatabase(options, LocalRunner.layerEncoding()).pipe(
  Layer.provideMerge(TestDatabase.layer)
)

/** A home server as a process of its own on a database: for restarts, and for several nodes. */
export const node = (url: Redacted.Redacted) =>
  Layer.build(
    Layer.fresh(HomeServer.layerOnDatabase(options).pipe(Layer.provideMerge(Database.pool({ url, maxConnections: 6 }))))
  )

let tokens = 1_000_000

/** A session of a user who never registered: rooms ask for no account. */
export const guest = (localpart: string): Session => ({
  userId: formatUserId(localpart, serverName),
  tokenId: ++tokens,
  deviceId: `device of ${localpart}`
})

/** Gives guests accounts, without a password, so that they can be invited. */
export const enrol = (...guests: ReadonlyArray<Session>): Effect.Effect<void, never, AccountStore> =>
  AccountStore.use((accounts) =>
    Effect.forEach(guests, ({ userId }) => Effect.ignore(accounts.create(userId)), { discard: true })
  )

/** Registers a user and gives their session. */
export const person = Effect.fnUntraced(function* (localpart: string): Effect.fn.Return<Session, never, Accounts> {
  const accounts = yield* Accounts
  const credentials = yield* Effect.orDie(accounts.register({ localpart, password: Redacted.make("correct horse") }))
  return yield* Effect.orDie(accounts.authenticate(credentials.access_token))
})

/** The `errcode` with which a request fails. A success is a failure of the test. */
export const errcodeOf = <A, E extends { readonly _tag: string }, R>(request: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(request), ({ _tag }) => _tag)

/** Two guests in a public room of the first. `suffix` keeps their names apart from those of other tests on the same server. */
export const aliceAndBob = Effect.fnUntraced(function* (suffix = "") {
  const rooms = yield* Rooms
  const [alice, bob] = [guest(`alice${suffix}`), guest(`bob${suffix}`)]
  const { room_id } = yield* rooms.create(alice, { visibility: "public" })
  yield* rooms.join(bob, room_id)
  return { alice, bob, room_id }
})
