/**
 * Receives the records that peers push. Pushes are accepted from configured peers only, verified by the configured keys, and
 * each peer may push only records that it signed. Repeated or reordered pushes are harmless, because the newest record wins.
 *
 * Source: "Identity" of the draft ("trusted clique of servers which replicate content").
 */

import { describeIssue } from "@greenroom/protocol/IssueDescription"
import { AssociationRecord } from "@greenroom/protocol/identity/Association"
import {
  maxClockDifference,
  type ReplicationAnswer,
  ReplicationPush
} from "@greenroom/protocol/identity/ReplicationApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { verifyJson } from "@greenroom/room/Signing"
import { Clock, Context, Effect, Layer, Result, Schema } from "effect"
import { Associations } from "./Associations.ts"
import { IdentityOptions, type Peer } from "./IdentityOptions.ts"

/** A push whose records are not checked yet. */
const Envelope = ReplicationPush.mapFields((fields) => ({
  ...fields,
  records: Schema.Array(Schema.Unknown).check(Schema.isMaxLength(100))
}))

const decodeEnvelope = Schema.decodeUnknownResult(Envelope)
const decodeRecord = Schema.decodeUnknownResult(AssociationRecord)

/** The longest accepted record, in characters of JSON. */
const maxRecordLength = 4_096

/** The record, with unknown keys, which are signed too; or the fault of the record. */
const judge = (value: unknown, peer: Peer, now: number): Result.Result<AssociationRecord, string> => {
  const decoded = decodeRecord(value)
  if (Result.isFailure(decoded)) return Result.fail(describeIssue(decoded.failure.issue).text)
  const signature = verifyJson(value as JsonObject, peer.name, peer.keys)
  if (Result.isFailure(signature)) return Result.fail(signature.failure.reason)
  if (decoded.success.ts > now + maxClockDifference) return Result.fail("ts lies in the future")
  if (decoded.success.ts < 0) return Result.fail("ts is negative")
  if (JSON.stringify(value).length > maxRecordLength) return Result.fail("the record is too long")
  return Result.succeed(value as AssociationRecord)
}

const make = Effect.gen(function* () {
  const { peers, serverName } = yield* IdentityOptions
  const associations = yield* Associations
  const byName = new Map<unknown, Peer>(peers.map((peer) => [peer.name, peer]))

  const authenticate = Effect.fnUntraced(function* (push: JsonObject) {
    const peer = byName.get(push.origin)
    if (peer === undefined) return yield* new Forbidden({ error: "origin: not a peer of this server" })
    const signature = verifyJson(push, peer.name, peer.keys)
    if (Result.isFailure(signature)) return yield* new Forbidden({ error: signature.failure.reason })
    return peer
  })

  const receive = Effect.fn("ReplicationReceiver.receive")(function* (push: JsonObject) {
    const peer = yield* authenticate(push)
    const envelope = decodeEnvelope(push)
    if (Result.isFailure(envelope)) return yield* new BadJson({ error: describeIssue(envelope.failure.issue).text })
    const { destination, records, ts } = envelope.success
    if (destination !== serverName)
      return yield* new Forbidden({ error: `destination: this server is ${serverName}, not ${destination}` })
    const now = yield* Clock.currentTimeMillis
    if (Math.abs(now - ts) > maxClockDifference) {
      return yield* new Forbidden({
        error: `ts: differs by more than ${maxClockDifference} ms from the clock of this server`
      })
    }
    const judged = records.map((record) => judge(record, peer, now))
    yield* associations.applyAll(
      judged.flatMap((record) => (Result.isSuccess(record) ? [record.success] : [])),
      peer.name
    )
    const refused = judged.flatMap((record, index) =>
      Result.isFailure(record) ? [{ index, error: record.failure }] : []
    )
    if (refused.length > 0) {
      yield* Effect.logWarning(
        `Refused ${plural(refused.length, "association")} of ${peer.name}, such as: ${refused[0]!.error}`
      )
    }
    const answer: ReplicationAnswer = { refused }
    return { answer, peer }
  })

  return ReplicationReceiver.of({ receive })
})

export class ReplicationReceiver extends Context.Service<
  ReplicationReceiver,
  {
    /** Checks a `ReplicationPush` and applies its records. Errors: M_FORBIDDEN, M_BAD_JSON. */
    readonly receive: (
      push: JsonObject
    ) => Effect.Effect<{ readonly answer: ReplicationAnswer; readonly peer: Peer }, Forbidden | BadJson>
  }
>()("greenroom/identity/ReplicationReceiver") {
  static readonly layer = Layer.effect(ReplicationReceiver, make)
}
