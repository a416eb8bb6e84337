/**
 * The rendezvous of two devices of a user for a sign-in by QR code: a short text, encrypted by the devices, that either of them reads
 * and replaces.
 *
 * Source: MSC4388, and MSC4108 in its form of 2024.
 */
import { randomBytes } from "node:crypto"
import { InvalidParam, LimitExceeded, type MatrixError, NotFound, TooLarge } from "@greenroom/protocol/MatrixError"
import { type RendezvousSession, RendezvousStore } from "@greenroom/store/RendezvousStore"
import { Clock, Context, Effect, Layer, Option } from "effect"

export type { RendezvousSession } from "@greenroom/store/RendezvousStore"

const maxDataBytes = 4_096
/** The lifetime of a session, in ms, and the most sessions. */
const lifetime = 5 * 60_000
const maxSessions = 10_000

const unknown = new NotFound({ error: "There is no such session, or it has expired" })

/** A new rendezvous session. */
export interface CreatedSession extends RendezvousSession {
  readonly id: string
}

const make = Effect.gen(function* () {
  const store = yield* RendezvousStore

  const mustFit = (data: string): Effect.Effect<void, MatrixError> => {
    if (data.includes("\0")) return Effect.fail(new InvalidParam({ error: "data: contains U+0000" }))
    return Buffer.byteLength(data) > maxDataBytes
      ? Effect.fail(new TooLarge({ error: `data: more than ${maxDataBytes} bytes` }))
      : Effect.void
  }

  const find = (id: string) =>
    Effect.flatMap(store.find(id), (found) =>
      Option.isSome(found) ? Effect.succeed(found.value) : Effect.fail(unknown)
    )

  const create = Effect.fn("Rendezvous.create")(function* (data: string) {
    yield* mustFit(data)
    const id = randomBytes(18).toString("base64url")
    const expiresAt = (yield* Clock.currentTimeMillis) + lifetime
    if (!(yield* store.create(id, data, expiresAt, maxSessions))) {
      return yield* new LimitExceeded({
        error: "Too many sign-ins by QR code are in progress, try again later",
        retry_after_ms: 60_000
      })
    }
    return { id, data, sequence: 1, expiresAt } satisfies CreatedSession
  })

  const replace = Effect.fn("Rendezvous.replace")(function* (id: string, data: string, sequence: number) {
    yield* mustFit(data)
    const next = yield* store.replace(id, data, sequence)
    if (Option.isSome(next)) return next
    const now = yield* find(id)
    // The request repeats the one that wrote this text.
    return now.data === data ? Option.some(now.sequence) : Option.none<number>()
  })

  const remove = (id: string) =>
    Effect.flatMap(store.remove(id), (removed) => (removed ? Effect.void : Effect.fail(unknown)))

  return Rendezvous.of({ create, find, replace, remove })
})

/** Rendezvous sessions, through which two devices of a user exchange encrypted texts to sign in by QR code. */
export class Rendezvous extends Context.Service<
  Rendezvous,
  {
    /** Creates a session. Callers: everyone. Errors: M_TOO_LARGE, M_LIMIT_EXCEEDED. */
    readonly create: (data: string) => Effect.Effect<CreatedSession, MatrixError>
    /** Callers of this and the other methods: everyone who knows the ID. Errors: M_NOT_FOUND. */
    readonly find: (id: string) => Effect.Effect<RendezvousSession, MatrixError>
    /** The next sequence; undefined if the text was replaced since. Errors: M_NOT_FOUND, M_TOO_LARGE. */
    readonly replace: (id: string, data: string, sequence: number) => Effect.Effect<Option.Option<number>, MatrixError>
    readonly remove: (id: string) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/Rendezvous") {
  static readonly layer = Layer.effect(Rendezvous, make)
}
