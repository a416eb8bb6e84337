/**
 * Reading and verifying PDUs of other servers, any number of them: the keys of all their origins are fetched at once,
 * then hashes and signatures are checked in slices that do not hold the event loop.
 *
 * Source: "PDUs and EDUs" of the specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { PduProblem, RoomVersion } from "@greenroom/room/RoomVersion"
import type { VerifyKeys } from "@greenroom/room/Signing"
import { Context, Effect, Layer, Result } from "effect"
import { type KeyNeed, type KeyRing, RemoteKeys } from "./RemoteKeys.ts"
import { sliced } from "./Slices.ts"

/** What is wrong with a PDU. `NoKeys`: the keys of a server could not be had; it may verify another time. */
export type VerificationProblem = PduProblem | { readonly _tag: "NoKeys"; readonly reason: string }

/** The event, redacted where its hash is wrong, or what is wrong with the PDU. */
export type VerifiedPdu = Result.Result<Event, VerificationProblem>

/** How many servers are asked for their keys at once. */
const concurrency = 16

/** The keys of every server that must have signed one of the events. */
type KeyRings = ReadonlyMap<ServerName, KeyRing>

const needOf = (event: Event, server: ServerName): KeyNeed => ({
  keyIds: new Set(Object.keys(event.signatures[server] ?? {})),
  signedAt: event.origin_server_ts
})

/** What servers have signed of an event: the event itself and what it carries. */
const signedParts = (version: RoomVersion, event: Event): ReadonlyArray<Event> => {
  const inviteJoin = version.inviteJoinOf(event)
  return inviteJoin === undefined ? [event] : [event, inviteJoin]
}

/** An event without any signature of the server is refused without asking for keys. */
const needsOf = (
  version: RoomVersion,
  events: ReadonlyArray<Event>
): ReadonlyMap<ServerName, ReadonlyArray<KeyNeed>> => {
  const needs = new Map<ServerName, Array<KeyNeed>>()
  for (const event of events.flatMap((each) => signedParts(version, each))) {
    for (const server of version.signers(event)) {
      const need = needOf(event, server)
      if (need.keyIds.size === 0) continue
      const ofServer = needs.get(server)
      if (ofServer === undefined) needs.set(server, [need])
      else ofServer.push(need)
    }
  }
  return needs
}

function* readAll(
  version: RoomVersion,
  pdus: ReadonlyArray<unknown>
): Generator<void, ReadonlyArray<Result.Result<Event, PduProblem>>> {
  const read: Array<Result.Result<Event, PduProblem>> = []
  for (const pdu of pdus) {
    read.push(attempt(() => version.fromPdu(pdu)))
    yield
  }
  return read
}

/** What cannot even be looked at is malformed; it must not take the others with it. */
const attempt = <E>(look: () => Result.Result<Event, E>): Result.Result<Event, E | PduProblem> => {
  try {
    return look()
  } catch (error) {
    return Result.fail({ _tag: "Malformed", reason: `it cannot be read: ${error}` })
  }
}

const verifyOne = (version: RoomVersion, event: Event, rings: KeyRings): VerifiedPdu => {
  const found = new Map<ServerName, VerifyKeys>()
  for (const part of signedParts(version, event)) {
    for (const server of version.signers(part)) {
      const ring = rings.get(server)
      const keys = ring?.choose(needOf(part, server)) ?? new Map()
      if (keys.size === 0 && ring?.problem !== undefined) {
        return Result.fail({ _tag: "NoKeys", reason: `the keys of ${server} could not be had` })
      }
      found.set(server, keys)
    }
  }
  return version.verify(event, (server) => found.get(server) ?? new Map())
}

function* verifyAll(
  version: RoomVersion,
  read: ReadonlyArray<Result.Result<Event, PduProblem>>,
  rings: KeyRings
): Generator<void, ReadonlyArray<VerifiedPdu>> {
  const verified: Array<VerifiedPdu> = []
  for (const event of read) {
    verified.push(Result.isFailure(event) ? event : attempt(() => verifyOne(version, event.success, rings)))
    yield
  }
  return verified
}

const make = Effect.gen(function* () {
  const remoteKeys = yield* RemoteKeys

  const fetchKeys = (version: RoomVersion, events: ReadonlyArray<Event>): Effect.Effect<KeyRings> =>
    Effect.map(
      Effect.forEach(
        needsOf(version, events),
        ([server, needs]) => Effect.map(remoteKeys.find(server, needs), (ring) => [server, ring] as const),
        { concurrency }
      ),
      (rings) => new Map(rings)
    )

  const verifyPdus = Effect.fn("PduVerification.verifyPdus")(function* (
    version: RoomVersion,
    pdus: ReadonlyArray<unknown>
  ) {
    const read = yield* sliced(() => readAll(version, pdus))
    const events = read.flatMap((each) => (Result.isSuccess(each) ? [each.success] : []))
    const rings = yield* fetchKeys(version, events)
    return yield* sliced(() => verifyAll(version, read, rings))
  })

  return PduVerification.of({ verifyPdus })
})

export class PduVerification extends Context.Service<
  PduVerification,
  {
    /** One result for each PDU, in their order. */
    readonly verifyPdus: (
      version: RoomVersion,
      pdus: ReadonlyArray<unknown>
    ) => Effect.Effect<ReadonlyArray<VerifiedPdu>>
  }
>()("greenroom/actors/PduVerification") {
  static readonly layer: Layer.Layer<PduVerification, never, RemoteKeys> = Layer.effect(PduVerification, make)
}
