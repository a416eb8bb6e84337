/**
 * Reading and verifying PDUs of other servers, any number of them: the keys of all their origins are fetched at once,
 * then hashes and signatures are checked in slices that do not hold the event loop. Of many PDUs the signatures are checked
 * by threads of their own (`SignatureThreads`).
 *
 * Source: "PDUs and EDUs" of the draft, "Validating hashes and signatures on received events" of the server-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import type { PduProblem, RoomVersion } from "@greenroom/room/RoomVersion"
import { isKeyId, type SignatureCheck, type VerifyKeys } from "@greenroom/room/Signing"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { RoomVoucherStore } from "@greenroom/store/RoomVoucherStore"
import { Array as Arr, Context, Effect, Layer, Result } from "effect"
import { awaitingOthers } from "../runtime/AnswerBudget.ts"
import { sliced } from "../runtime/Slices.ts"
import { type KeyNeed, type KeyRing, RemoteKeys } from "./RemoteKeys.ts"
import { type SignatureJob, SignatureThreads } from "./SignatureThreads.ts"

/** The keys of a server that signed an event could not be obtained. A later attempt may succeed. */
export interface NoKeys {
  readonly _tag: "NoKeys"
  readonly reason: string
  readonly signer: ServerName
  /** The event, of which nothing but the form is known to be right. */
  readonly unverified: Event
}

/** The fault of a PDU, with the ID of its event where it could be parsed. */
export type VerificationProblem = (PduProblem | NoKeys) & { readonly eventId?: EventId }

/** The fault, for the origin and the log. */
export const problemText = (problem: VerificationProblem): string =>
  problem._tag === "TooLarge" ? `the PDU has ${problem.bytes} bytes` : problem.reason

/** The event, redacted if its hash is wrong, or the fault of the PDU. */
export type VerifiedPdu = Result.Result<Event, VerificationProblem>

export interface VerificationOptions {
  /** A server that vouches for keys beside those that do so in the rooms of the PDUs already. */
  readonly voucher?: ServerName | undefined
  /** The PDUs are history, as in `RoomVersion.fromPdu`. */
  readonly history?: boolean
  /** PDUs of other rooms are malformed. */
  readonly roomId?: RoomId | undefined
}

/** The number of rooms whose vouchers are kept in memory, and for how long. */
const rememberedRooms = 10_000
const rememberedFor = "1 minute"

/** From how many PDUs on their signatures are checked by other threads, and how many go to one thread at once. */
const threadedFrom = 100
const checkedAtOnce = 500

/** How many batches are with the threads at a time: their signed texts wait in memory. */
const batchesAtOnce = 4

/** The keys of every server that must have signed one of the events. */
type KeyRings = ReadonlyMap<ServerName, KeyRing>

/** The same by the rooms of the events. */
type RingsOfRooms = ReadonlyMap<RoomId, KeyRings>

/** The keys with which the server has signed the event. Signatures by algorithms other than Ed25519 do not count. */
const keyIdsOf = (event: Event, server: ServerName): Array<string> =>
  Object.keys(event.signatures[server] ?? {}).filter(isKeyId)

const needOf = (version: RoomVersion, event: Event, server: ServerName): KeyNeed => ({
  keyIds: new Set(keyIdsOf(event, server)),
  signedAt: event.origin_server_ts,
  atAnyTime: !version.enforcesKeyValidity
})

/** The parts of an event that servers have signed: the event itself and the events that it carries. */
const signedParts = (version: RoomVersion, event: Event): ReadonlyArray<Event> => {
  const inviteJoin = version.inviteJoinOf(event)
  return inviteJoin === undefined ? [event] : [event, inviteJoin]
}

/**
 * The keys that the events need, for each server the keys of its newest events: keys that are valid then were valid before.
 * An event without any signature of the server is refused without asking for keys.
 */
function* needsOf(
  version: RoomVersion,
  events: ReadonlyArray<Event>
): Generator<void, ReadonlyMap<ServerName, ReadonlyArray<KeyNeed>>> {
  const newest = new Map<ServerName, Map<string, KeyNeed>>()
  for (const event of events) {
    for (const part of signedParts(version, event)) {
      for (const server of version.signers(part)) {
        const keyIds = keyIdsOf(part, server)
        if (keyIds.length === 0) continue
        const ofServer = newest.get(server) ?? new Map<string, KeyNeed>()
        newest.set(server, ofServer)
        const keys = keyIds.length === 1 ? keyIds[0]! : keyIds.sort().join(" ")
        const known = ofServer.get(keys)?.signedAt ?? Number.NEGATIVE_INFINITY
        if (part.origin_server_ts > known) ofServer.set(keys, needOf(version, part, server))
      }
    }
    yield
  }
  return new Map([...newest].map(([server, needs]) => [server, [...needs.values()]]))
}

/** The events. PDUs of other rooms than `roomId` are malformed, so that nobody is asked for their keys. */
function* readAll(
  version: RoomVersion,
  pdus: ReadonlyArray<unknown>,
  history: boolean,
  roomId: RoomId | undefined
): Generator<void, ReadonlyArray<Result.Result<Event, PduProblem>>> {
  const read: Array<Result.Result<Event, PduProblem>> = []
  for (const pdu of pdus) {
    const event = attempt(() => version.fromPdu(pdu, history))
    const isOther = roomId !== undefined && Result.isSuccess(event) && event.success.room_id !== roomId
    read.push(isOther ? Result.fail({ _tag: "Malformed", reason: "it is of another room" }) : event)
    yield
  }
  return read
}

/** PDUs that cannot even be parsed are malformed. They must not fail the others. */
const attempt = <E>(look: () => Result.Result<Event, E>): Result.Result<Event, E | PduProblem> => {
  try {
    return look()
  } catch (error) {
    return Result.fail({ _tag: "Malformed", reason: `it cannot be read: ${error}` })
  }
}

const verifyEvent = (
  version: RoomVersion,
  event: Event,
  rings: KeyRings,
  isRight: SignatureCheck | undefined
): VerifiedPdu => {
  const found = new Map<ServerName, VerifyKeys>()
  for (const part of signedParts(version, event)) {
    for (const server of version.signers(part)) {
      const ring = rings.get(server)
      const need = needOf(version, part, server)
      const keys = ring?.choose(need) ?? new Map()
      if (keys.size === 0 && need.keyIds.size > 0 && ring?.problem !== undefined) {
        const reason = `the keys of ${server} could not be had: ${ring.problem}`
        return Result.fail({ _tag: "NoKeys", reason, signer: server, unverified: event })
      }
      found.set(server, keys)
    }
  }
  return version.verify(event, (server) => found.get(server) ?? new Map(), isRight)
}

/** Verifies an event that was read, or gives the fault with which it was. */
const verifyOne = (
  version: RoomVersion,
  event: Result.Result<Event, PduProblem>,
  rings: RingsOfRooms,
  isRight?: SignatureCheck
): VerifiedPdu => {
  if (Result.isFailure(event)) return event
  const { event_id: eventId, room_id } = event.success
  const result = attempt(() => verifyEvent(version, event.success, rings.get(room_id) ?? new Map(), isRight))
  return Result.mapError(result, (problem) => ({ ...problem, eventId }))
}

function* verifyAll(
  version: RoomVersion,
  read: ReadonlyArray<Result.Result<Event, PduProblem>>,
  rings: RingsOfRooms
): Generator<void, ReadonlyArray<VerifiedPdu>> {
  const verified: Array<VerifiedPdu> = []
  for (const event of read) {
    verified.push(verifyOne(version, event, rings))
    yield
  }
  return verified
}

/** Results as they are if all signatures are right, with the signatures of each, which are still to be checked. */
interface Presumed {
  readonly results: Array<VerifiedPdu>
  readonly jobs: ReadonlyArray<SignatureJob>
  /** The index in `jobs` where the signatures of each result end. */
  readonly ends: ReadonlyArray<number>
}

function* presumeAll(
  version: RoomVersion,
  read: ReadonlyArray<Result.Result<Event, PduProblem>>,
  rings: RingsOfRooms
): Generator<void, Presumed> {
  const results: Array<VerifiedPdu> = []
  const jobs: Array<SignatureJob> = []
  const ends: Array<number> = []
  const collect: SignatureCheck = (bytes, signature, key) => {
    jobs.push({ bytes, signature, key })
    return true
  }
  for (const event of read) {
    results.push(verifyOne(version, event, rings, collect))
    ends.push(jobs.length)
    yield
  }
  return { results, jobs, ends }
}

/** Verifies again here those of which a signature is wrong or was not checked. Another key may have signed them. */
function* decideAll(
  version: RoomVersion,
  read: ReadonlyArray<Result.Result<Event, PduProblem>>,
  rings: RingsOfRooms,
  { ends, results }: Presumed,
  right: Uint8Array | undefined
): Generator<void, ReadonlyArray<VerifiedPdu>> {
  for (const [index, event] of read.entries()) {
    const own = right?.subarray(ends[index - 1] ?? 0, ends[index])
    if (own?.every((entry) => entry === 1) === true) continue
    results[index] = verifyOne(version, event, rings)
    yield
  }
  return results
}

const make = Effect.gen(function* () {
  const remoteKeys = yield* RemoteKeys
  const vouchers = yield* RoomVoucherStore
  const threads = yield* SignatureThreads
  const vouchersOf = yield* MonotonicCache.make<RoomId, ReadonlyArray<ServerName>>({
    lookup: (roomId) => Effect.map(vouchers.find([roomId]), (found) => found.get(roomId) ?? []),
    capacity: rememberedRooms,
    timeToLive: rememberedFor
  })

  /** The keys of the servers that signed events of one room. */
  const keysIn = Effect.fnUntraced(function* (
    version: RoomVersion,
    roomId: RoomId,
    events: ReadonlyArray<Event>,
    also: ReadonlyArray<ServerName>
  ) {
    const needs = yield* sliced(() => needsOf(version, events))
    return yield* awaitingOthers(
      remoteKeys.findAll(
        needs,
        Effect.map(MonotonicCache.get(vouchersOf, roomId), (inRoom) => [...inRoom, ...also])
      )
    )
  })

  const verifyByThreads = Effect.fnUntraced(function* (
    version: RoomVersion,
    read: ReadonlyArray<Result.Result<Event, PduProblem>>,
    rings: RingsOfRooms
  ) {
    const presumed = yield* sliced(() => presumeAll(version, read, rings))
    const right = yield* threads.check(presumed.jobs)
    return yield* sliced(() => decideAll(version, read, rings, presumed, right))
  })

  const verifyPdus = Effect.fn("PduVerification.verifyPdus")(function* (
    version: RoomVersion,
    pdus: ReadonlyArray<unknown>,
    { history = false, roomId, voucher }: VerificationOptions = {}
  ) {
    const read = yield* sliced(() => readAll(version, pdus, history, roomId))
    const events = read.flatMap((entry) => (Result.isSuccess(entry) ? [entry.success] : []))
    const rings = new Map(
      yield* Effect.forEach(
        Map.groupBy(events, (event) => event.room_id),
        ([roomId, of]) =>
          Effect.map(
            keysIn(version, roomId, of, voucher === undefined ? [] : [voucher]),
            (keys) => [roomId, keys] as const
          ),
        { concurrency: "unbounded" }
      )
    )
    return read.length < threadedFrom || !threads.hasThreads
      ? yield* sliced(() => verifyAll(version, read, rings))
      : (yield* Effect.forEach(Arr.chunksOf(read, checkedAtOnce), (part) => verifyByThreads(version, part, rings), {
          concurrency: batchesAtOnce
        })).flat()
  })

  return PduVerification.of({
    verifyPdus,
    joinedThrough: (roomId, server) =>
      Effect.andThen(vouchers.add(roomId, server), MonotonicCache.invalidate(vouchersOf, roomId))
  })
})

/** Reads PDUs of other servers, and checks their hashes and signatures. */
export class PduVerification extends Context.Service<
  PduVerification,
  {
    /** One result for each PDU, in their order. */
    readonly verifyPdus: (
      version: RoomVersion,
      pdus: ReadonlyArray<unknown>,
      options?: VerificationOptions
    ) => Effect.Effect<ReadonlyArray<VerifiedPdu>>
    /** This server has joined the room through that one, which vouches for keys in it from now on. */
    readonly joinedThrough: (roomId: RoomId, server: ServerName) => Effect.Effect<void>
  }
>()("greenroom/actors/PduVerification") {
  static readonly layer: Layer.Layer<PduVerification, never, RemoteKeys | RoomVoucherStore> = Layer.effect(
    PduVerification,
    make
  ).pipe(Layer.provide(SignatureThreads.layer))
}
