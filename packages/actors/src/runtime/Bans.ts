/**
 * Users, servers and content that administrators have banned. Every node holds all of them in memory, since they are few and
 * each request of another server needs them. Changes arrive with the log.
 */
import { isHistoricalUserId, isServerName } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { type Ban, type BanChange, type BanKind, BanStore, banChanges } from "@greenroom/store/BanStore"
import { EventLog } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { Context, Effect, Layer } from "effect"
import { SessionRevocations } from "./SessionRevocations.ts"

const described = { user: "This user", server: "This server", sha256: "This content" } as const

/** The fault of a value to ban: a user ID, a server name, or the SHA-256 of content in hexadecimal digits. */
export const banProblem = (kind: BanKind, value: string): string | undefined => {
  if (kind === "user") return isHistoricalUserId(value) ? undefined : "expected a user ID"
  if (kind === "server") return isServerName(value) ? undefined : "expected a server name"
  return /^[0-9a-fA-F]{64}$/.test(value) ? undefined : "expected the SHA-256 of content in 64 hexadecimal digits"
}

/** The value as it is stored: server names and hashes are the same in small letters. */
export const normalBan = (kind: BanKind, value: string): string => (kind === "user" ? value : value.toLowerCase())

const make = Effect.gen(function* () {
  const store = yield* BanStore
  const { followedEverywhere } = yield* SessionRevocations
  const banned = { user: new Set<string>(), server: new Set<string>(), sha256: new Set<string>() }
  const apply = ({ active, kind, value }: BanChange) => (active ? banned[kind].add(value) : banned[kind].delete(value))

  yield* (yield* EventLog).follow((slice) =>
    Effect.sync(() => {
      for (const { row } of rowsOf(slice.rows, banChanges)) apply(row)
    })
  )
  for (const ban of yield* store.all) apply({ ...ban, active: true })

  const refuse = (kind: BanKind) =>
    Effect.fail(new Forbidden({ error: `${described[kind]} is banned by the administrators of this server` }))

  return Bans.of({
    has: (kind, value) => banned[kind].has(normalBan(kind, value)),
    check: (kind, value) => (banned[kind].has(normalBan(kind, value)) ? refuse(kind) : Effect.void),
    checkStored: (kind, value) =>
      Effect.flatMap(store.isBanned(kind, normalBan(kind, value)), (isBanned) =>
        isBanned ? refuse(kind) : Effect.void
      ),
    list: store.all,
    add: (ban) => {
      const value = normalBan(ban.kind, ban.value)
      return Effect.andThen(
        store.add({ ...ban, value }),
        Effect.sync(() => apply({ kind: ban.kind, value, active: true }))
      ).pipe(Effect.andThen(followedEverywhere))
    },
    lift: (kind, value) => {
      const name = normalBan(kind, value)
      return Effect.tap(store.lift(kind, name), () => {
        apply({ kind, value: name, active: false })
        return followedEverywhere
      })
    }
  })
})

/** Banned users, servers and content, in the memory of every node. */
export class Bans extends Context.Service<
  Bans,
  {
    /** Whether it is banned, as far as this node has heard. */
    readonly has: (kind: BanKind, value: string) => boolean
    /** Errors: M_FORBIDDEN if it is banned. */
    readonly check: (kind: BanKind, value: string) => Effect.Effect<void, Forbidden>
    /** As `check`, by the database: it has a ban of the command line before the nodes have read that. */
    readonly checkStored: (kind: BanKind, value: string) => Effect.Effect<void, Forbidden>
    readonly list: Effect.Effect<ReadonlyArray<Ban>>
    /** Adds a ban at all nodes. */
    readonly add: (ban: Omit<Ban, "bannedAt">) => Effect.Effect<void>
    /** False if there was none. */
    readonly lift: (kind: BanKind, value: string) => Effect.Effect<boolean>
  }
>()("greenroom/actors/Bans") {
  static readonly layer = Layer.effect(Bans, make)
}
