/** Bounds of what a user has hold for requests that run at the same time. */
import { assert, layer } from "@effect/vitest"
import { RoomAlias, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Exit, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { AccountDataStore } from "../../src/AccountDataStore.ts"
import { AccountStore } from "../../src/AccountStore.ts"
import { ClientSettingsStore } from "../../src/ClientSettingsStore.ts"
import { DirectoryStore } from "../../src/DirectoryStore.ts"
import { EventLog } from "../../src/EventLog.ts"
import { OpenIdTokenStore } from "../../src/OpenIdTokenStore.ts"
import { PusherStore } from "../../src/PusherStore.ts"
import { ReportStore } from "../../src/ReportStore.ts"
import { beginning } from "../../src/StreamToken.ts"
import * as TestDatabase from "../../src/testing/TestDatabase.ts"

const stores = Layer.mergeAll(
  AccountDataStore.layer,
  AccountStore.layer,
  ClientSettingsStore.layer,
  DirectoryStore.layer,
  OpenIdTokenStore.layer,
  PusherStore.layer,
  ReportStore.layer
).pipe(Layer.provide(EventLog.layer), Layer.provideMerge(TestDatabase.layer))

const alice = UserId.make("@alice:green.test")
const roomId = RoomId.make("!room:green.test")

/** How many of many requests at once succeed. */
const together = <R>(request: (index: number) => Effect.Effect<boolean, unknown, R>) =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: 60 }, (_, index) => index),
      (index) => Effect.exit(request(index)),
      { concurrency: "unbounded" }
    ),
    (exits) => exits.filter((exit) => Exit.isSuccess(exit) && exit.value).length
  )

layer(stores)("bounds", (it) => {
  it.effect("of pushers, filters, entries, aliases and reports are not passed by requests at the same time", () =>
    Effect.gen(function* () {
      const [data, settings, directory, pushers, reports] = yield* Effect.all([
        AccountDataStore,
        ClientSettingsStore,
        DirectoryStore,
        PusherStore,
        ReportStore
      ])
      const pusher = {
        userId: alice,
        deviceId: "PHONE",
        appId: "app",
        kind: "http" as const,
        setAt: 1,
        description: {}
      }
      const kinds = {
        pushers: (n: number) => pushers.set({ ...pusher, pushkey: `key ${n}` }, beginning, { alone: false, most: 10 }),
        filters: (n: number) => Effect.map(settings.addFilter(alice, { n }, 10), Option.isSome),
        entries: (n: number) => data.set(alice, undefined, `org.example.${n}`, { n }, 10),
        updates: (n: number) => data.update(alice, roomId, `org.example.${n}`, () => ({ n }), 20),
        aliases: (n: number) =>
          Effect.as(
            directory.create(
              RoomAlias.make(`#${n}:green.test`),
              { roomId: RoomId.make(`!${n}:green.test`), servers: [], creator: alice },
              10
            ),
            true
          ),
        aliasesOfRoom: (n: number) =>
          Effect.as(
            directory.create(
              RoomAlias.make(`#of-${n}:green.test`),
              { roomId, servers: [], creator: UserId.make(`@user-${n}:green.test`) },
              10
            ),
            true
          ),
        reports: (n: number) => reports.add({ reporter: alice, userId: alice, reason: `${n}` }, 10)
      }
      for (const [kind, request] of Object.entries(kinds)) assert.strictEqual(yield* together(request), 10, kind)
    })
  )

  it.effect("of OpenID tokens: the newest are kept", () =>
    Effect.gen(function* () {
      yield* (yield* AccountStore).create(alice)
      const tokens = yield* OpenIdTokenStore
      const sql = yield* SqlClient.SqlClient
      for (const round of [1, 2, 3]) {
        yield* together((n) => Effect.as(tokens.create(alice, Redacted.make(`${round} ${n}`), 1e15 + round, 10), true))
      }
      // Which of those that end at the same time are kept is left open.
      const kept = yield* sql<{ ends: string }>`SELECT expires_at::text AS ends FROM openid_tokens`
      assert.deepStrictEqual(
        kept.map(({ ends }) => ends),
        Array.from({ length: 10 }, () => String(1e15 + 3))
      )
    })
  )
})
